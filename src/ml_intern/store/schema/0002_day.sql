-- What attempts and calls of all sessions may cost or did cost, by the day on which they were reserved. A guard beside the
-- record: it may be lost, and then the day begins anew.
CREATE TABLE day (
  key TEXT NOT NULL PRIMARY KEY,
  day TEXT NOT NULL,
  amount INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX day_of ON day (day, amount);
