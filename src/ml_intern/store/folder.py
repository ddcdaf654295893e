"""The data folder: private files and folders, and whether its file system can carry the record. Knows no schema."""

import os
import re
import stat
from pathlib import Path

from ml_intern.base.errors import SessionNotFound, StoreFailed
from ml_intern.store.failures import of_system

DATABASE = "sessions.db"

# File systems that several kernels write: SQLite's WAL needs shared memory (https://www.sqlite.org/wal.html, "all
# processes must be on the same host"), and their locks are not always true.
_NETWORK = re.compile(
    r"(nfs\d*|cifs|smb\d*|smbfs|9p|afs|coda|ceph|lustre|beegfs|gpfs|glusterfs|orangefs|pvfs2|panfs|ocfs2|gfs2|acfs|"
    r"fuse\.(sshfs|s3fs|s3ql|gcsfuse|goofys|geesefs|rclone|mountpoint-s3|juicefs|blobfuse2?|glusterfs|ceph|ceph-fuse|"
    r"curlftpfs|davfs2?|hdfs|alluxio|moosefs|mfs|seaweedfs|weed|lizardfs|cvmfs2?|smbnetfs|afpfs|objectivefs))"
)
_SESSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_OCTAL = re.compile(r"\\([0-7]{3})")


def session_folder(data: Path, session: str) -> Path:
    """Where the files of `session` lie.

    Raises:
        SessionNotFound: this is not a session's id.
    """
    if not _SESSION.fullmatch(session):
        raise SessionNotFound(f"{session!r} is not the id of a session.", "`ml-intern sessions` lists them.")
    return data / "sessions" / session


def make_private_folder(path: Path) -> None:
    """Make the folder and those above it that are missing, each for its owner alone (0700), whatever the umask.

    Raises:
        StoreFailed: it cannot be made.
    """
    try:
        if not path.is_dir():
            make_private_folder(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
    except OSError as error:
        raise of_system(error, path) from error


def make_private_file(path: Path) -> None:
    """Make an empty file for its owner alone (0600) unless it is there.

    The file is never opened: closing it would end this process's SQLite locks on it (fcntl(2)).

    Raises:
        StoreFailed: it cannot be made.
    """
    try:
        os.mknod(path, 0o600 | stat.S_IFREG)
        path.chmod(0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise of_system(error, path) from error


def refuse_network(folder: Path, mountinfo: str) -> None:
    """Make sure that `folder`, which exists, lies on a file system of this machine (`mountinfo`: see proc(5)).

    Raises:
        StoreFailed: it lies on a network file system.
    """
    kind = file_system(folder, mountinfo)
    if _NETWORK.fullmatch(kind):
        what = f"{folder} lies on a network file system ({kind}), where SQLite can lose a record."
        raise StoreFailed(what, "Set ML_INTERN_DATA to a folder on a local disk.")


def file_system(folder: Path, mountinfo: str) -> str:
    """The type of the file system that holds `folder`, "" where it cannot be told."""
    whole = folder.resolve()
    found, depth = "", -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = Path(_OCTAL.sub(lambda octal: chr(int(octal.group(1), 8)), fields[4]))
        # Of two mounts on one place the later one is seen.
        if whole.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = right.split(" ", 1)[0], len(point.parts)
    return found
