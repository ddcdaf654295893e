"""Wires: one protocol each, bytes to deltas. Know no record, no retry and no price."""
