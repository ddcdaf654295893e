"""An autonomous ML engineer: one record, one loop, one road, behind any door."""
