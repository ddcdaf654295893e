"""How a module of ours is started as a bare Python process: isolated, without site, fast.

Knows no module by name. Imports only the standard library.
"""

import os
import sys

_PROGRAM = """import importlib, sys
sys.path.append(sys.argv[1])
importlib.import_module(sys.argv[2]).main(sys.argv[3:])"""


def command_line(module: str, *arguments: str) -> list[str]:
    """The command that runs `main(arguments)` of a module that imports only the standard library and its like."""
    above_the_package = os.path.realpath(f"{__file__}/../../..")
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, above_the_package, module, *arguments]
