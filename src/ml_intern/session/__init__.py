"""A live session: its inbox and its task. Knows no door, no store and no tool."""
