"""What a command is for; it decides what of the roots the command may write. Knows no mount call."""

from enum import StrEnum


class Profile(StrEnum):
    """`explore` reads only (its /tmp is thrown away); the others write where their roots say so. None has a network."""

    EXPLORE = "explore"
    WORK = "work"
    TRAIN = "train"
    EVAL = "eval"
