"""Settings, places on disk, and the one room that wires adapters to ports. Knows no door."""
