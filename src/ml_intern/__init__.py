"""An autonomous ML engineer: one record, one loop, one road, behind any door."""

__version__ = "0.1.0"
