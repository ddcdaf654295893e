"""Where each turn of a lane began that is still visible: what an undo counts. Knows no transcript."""

from ml_intern.base.trail import Trail
from ml_intern.record.events import Entry, Undone
from ml_intern.record.folds.turn import Turn


def fold_turns(turns: Trail[int], turn: Turn, entry: Entry) -> Trail[int]:
    """The beginnings after `entry`, which made the lane's turn `turn`."""
    match entry.event:
        case Undone(upto=upto):
            return Trail(start for start in turns if start <= upto)
        case _ if turn.open and turn.started_seq == entry.seq:
            return turns.plus(entry.seq)
        case _:
            return turns
