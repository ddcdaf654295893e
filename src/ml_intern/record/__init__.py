"""The session's record: events, messages, the log, the live feed and the folds. Pure; knows no store and no model."""
