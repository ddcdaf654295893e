"""One file per piece of state, each a pure function of events. Knows no loop and no tool.

The events that come most often stand first in a `match`: a class that an event is not of costs more than a call, and
nine tenths of a record are `ModelAsked`, `ModelReplied`, `ToolStarted` and `ToolFinished`.
"""
