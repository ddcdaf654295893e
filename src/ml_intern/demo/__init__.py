"""The main job without key, account or network: the decisions are a script, the rest is real. Knows no click."""
