"""The tests: rooms mirror src/ml_intern; walks, faults, doubles, architecture and mutants stand beside them."""
