CREATE TABLE sessions (
  id TEXT NOT NULL PRIMARY KEY,
  -- Who may write: every append names the epoch under which it took the session.
  epoch INTEGER NOT NULL DEFAULT 0,
  -- What follows only repeats events up to number `folded`; it may be lost and is made again from them.
  folded INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL DEFAULT 0,
  updated INTEGER NOT NULL DEFAULT 0,
  title TEXT NOT NULL DEFAULT '',
  workspace TEXT NOT NULL DEFAULT '',
  model TEXT NOT NULL DEFAULT '',
  preview TEXT NOT NULL DEFAULT '',
  spent INTEGER NOT NULL DEFAULT 0,
  state TEXT NOT NULL DEFAULT 'open'
) WITHOUT ROWID;

CREATE TABLE events (
  session TEXT NOT NULL REFERENCES sessions (id),
  seq INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (session, seq)
);
