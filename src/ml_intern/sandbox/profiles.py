"""What a command is for; it decides what of the roots the command may write. Knows no mount call."""

from enum import StrEnum


class Profile(StrEnum):
    """`explore` reads only (its /tmp is thrown away); the others write where their roots say so.

    `explore` and `eval` have no network; the others have localhost of the session and the broker.
    """

    EXPLORE = "explore"
    WORK = "work"
    TRAIN = "train"
    EVAL = "eval"
