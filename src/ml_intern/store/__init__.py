"""Where records lie: one SQLite file for all sessions, a folder and a lock per session. Knows no tool and no door."""
