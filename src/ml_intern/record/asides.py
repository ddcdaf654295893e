"""What is asked aside of a lane's conversation: no step of it, no line and no calls, but an attempt as any other."""

from ml_intern.record.events import Role

COMPACTION: Role = "compaction"
"""Asked for the prose of a summary."""
TITLE: Role = "title"
"""Asked for the name of a session."""
ASIDES: frozenset[Role] = frozenset((COMPACTION, TITLE))
