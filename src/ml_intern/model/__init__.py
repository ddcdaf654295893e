"""One attempt at a model: the port, the wires, the catalog. Knows no record, no retry, no tool."""
