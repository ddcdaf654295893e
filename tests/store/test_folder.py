import os
import stat
from pathlib import Path

import pytest

from ml_intern.base.errors import SessionNotFound, StoreFailed
from ml_intern.store.folder import (
    file_system,
    make_private_file,
    make_private_folder,
    refuse_network,
    session_folder,
)

MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:31 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:32 / /home/me/local rw - xfs /dev/sdb rw
32 22 0:33 / /mnt/my\\040disk rw - fuse.sshfs me@host: rw,user_id=0
33 22 0:34 / /over rw - ext4 /dev/sdc rw
34 33 0:35 / /over rw - cifs //server/share rw
a line that is cut
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/home/me/local/data", "xfs"),
        ("/homely", "ext4"),
        ("/mnt/my disk/data", "fuse.sshfs"),
        ("/over/data", "cifs"),
    ],
)
def test_the_mount_that_holds_a_folder_is_found(folder, kind):
    assert file_system(Path(folder), MOUNTS) == kind


def test_what_this_machine_says_of_its_own_folders_is_read(tmp_path):
    mountinfo = Path("/proc/self/mountinfo").read_text()
    assert file_system(Path("/proc/self"), mountinfo) == "proc"
    refuse_network(tmp_path, mountinfo)
    refuse_network(tmp_path, "")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "ceph", "fuse.sshfs", "fuse.gcsfuse"])
def test_network_file_systems_are_refused(kind, tmp_path):
    with pytest.raises(StoreFailed, match=f"network file system \\({kind}\\)") as refused:
        refuse_network(tmp_path, f"1 0 0:1 / / rw - {kind} somewhere rw")
    assert "ML_INTERN_DATA" in refused.value.remedy


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuse.fuse-overlayfs", "fuseblk"])
def test_local_file_systems_are_not(kind, tmp_path):
    refuse_network(tmp_path, f"1 0 0:1 / / rw - {kind} somewhere rw")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_what_is_made_is_private_whatever_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        make_private_folder(tmp_path / "a" / "b")
        make_private_file(tmp_path / "a" / "b" / "file")
        make_private_file(tmp_path / "a" / "b" / "file")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file")]
    assert modes == [0o700, 0o700, 0o600]


def test_a_folder_that_is_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["..", "", "a/b", "/etc", ".hidden", "x" * 65, "a\nb", "a b"])
def test_only_an_id_names_a_session(name, tmp_path):
    with pytest.raises(SessionNotFound):
        session_folder(tmp_path, name)
