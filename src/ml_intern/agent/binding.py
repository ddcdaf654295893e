"""The hash of everything that an approval covers. Knows no policy and no tool."""

import hashlib

from ml_intern.record.messages import Call
from ml_intern.toolkit.tool import Prepared


def binding_of(call: Call, prepared: Prepared) -> str:
    """SHA-256 over tool, arguments, effects, inputs, quote and payer: one byte of difference asks anew.

    The effects are frozen dataclasses of strings, numbers and truth values: their `repr` is canonical.
    """
    bound = (call.tool, call.arguments, prepared.effects, prepared.inputs, prepared.quote, prepared.payer)
    return hashlib.sha256(repr(bound).encode()).hexdigest()
