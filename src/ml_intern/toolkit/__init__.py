"""What a tool is. Knows no concrete tool, no policy, no door."""
