"""Runs an operation on whole sessions again and again, killed a little later each time, and says what each kill left.

`python killer.py OPERATION DATA`: DATA holds one session at rest. Each round works on a copy of it. A kill falls on the
Nth time that the process touches a file or folder of it (sys.addaudithook); the last round is not killed.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from ml_intern.base.clock import TestClock
from ml_intern.record.codec import decode
from ml_intern.record.log import replay
from ml_intern.record.secrets import Secrets
from ml_intern.session.house import House
from ml_intern.session.parcel import names_in
from ml_intern.store.folder import session_folder
from ml_intern.store.removal import GONE
from ml_intern.store.sessions import summaries
from ml_intern.store.sqlite import SqliteStore

TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.chmod", "shutil.rmtree"}
MOST_ROUNDS = 400


async def operate(name: str, data: Path) -> None:
    store = await SqliteStore.open(data)
    house = House(store, Secrets({}), TestClock())
    session = (await summaries(store))[0].id
    match name:
        case "delete":
            await house.delete(session)
        case "fork":
            await house.fork(session, None, 1000)
        case "import":
            with (data.parent / "exported.jsonl").open("rb") as file:
                await house.bring_in(file, data.parent)
    await store.close()


def child(name: str, data: Path, touch: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in TOUCHES and str(data) in str(arguments[0] if arguments else ""):
            seen += 1
            if seen == touch:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    asyncio.run(operate(name, data))


async def left(data: Path) -> dict[str, Any]:
    """What a person sees: the sessions that are listed, whether each opens, whether all it names is there."""
    store = await SqliteStore.open(data)
    listed = [each.id for each in await summaries(store)]
    whole = []
    for session in listed:
        lines = await store.lines(session)
        replay(map(decode, lines))
        folder = session_folder(data, session) / "blobs"
        whole.append(folder.is_dir() and all((folder / sha[:2] / sha[2:]).is_file() for sha in names_in(lines)))
    await store.close()
    folders = sorted(path.name for path in (data / "sessions").iterdir())
    hidden = [name for name in folders if name.startswith(GONE)]
    strays = [name for name in folders if name not in hidden and name not in listed]
    out = data / "out.jsonl"
    size = out.stat().st_size if out.exists() else None
    return {"listed": len(listed), "whole": all(whole), "strays": len(strays), "hidden": len(hidden), "out": size}


def main(name: str, data: Path) -> None:
    for touch in range(1, MOST_ROUNDS):
        copy = data.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(data, copy)
        pid = os.fork()
        if pid == 0:
            child(name, copy, touch)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, **asyncio.run(left(copy))}), flush=True)
        if code != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
