"""One file per piece of state, each a pure function of events. Knows no loop and no tool."""
