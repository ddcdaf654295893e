import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import threading
import time

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.sandbox import files, opening
from ml_intern.sandbox.paths import Roots, place, session_roots
from ml_intern.sandbox.scan import Change, diff, scan

SWAPS = 2_000


@pytest.fixture(params=[opening.by_openat2, opening.by_walk], ids=["openat2", "walk"])
def opener(request):
    if request.param is opening.by_openat2 and not opening.has_openat2():
        pytest.skip("this kernel or container has no openat2: only the walk is tested")
    return request.param


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "ws").mkdir()
    return tmp_path / "ws"


@pytest.fixture
def roots(workspace, tmp_path) -> Roots:
    return session_roots(workspace, tmp_path / "s", tmp_path / "e")


@pytest.fixture
def at(roots):
    return lambda path, write=False: place(roots, path, roots.workspace, write=write)


def test_the_two_openers_agree_on_every_kind_of_path(workspace):
    (workspace / "folder").mkdir()
    (workspace / "folder" / "file").write_text("x")
    (workspace / "link").symlink_to("folder/file")
    (workspace / "way").symlink_to("folder")
    root = os.open(workspace, os.O_PATH)

    def told(opener, path, flags):
        try:
            os.close(opener(root, path, flags))
        except OSError as error:
            # A walk meets a link on the way as ENOTDIR, openat2 as ELOOP: both are worded as a link.
            return "link" if error.errno in {errno.ELOOP, errno.ENOTDIR} else error.errno
        return "opened"

    paths = ["folder", "folder/file", "link", "way/file", "missing", "missing/x", "folder/file/x", "..", "folder/../.."]
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY):
        assert [told(opening.by_openat2, path, flags) for path in paths] == [
            told(opening.by_walk, path, flags) for path in paths
        ]
    os.close(root)


def test_a_file_is_read_whole_or_in_part(at, workspace, opener):
    (workspace / "a.bin").write_bytes(bytes(range(256)))
    assert files.read_bytes(at("a.bin"), opener=opener) == bytes(range(256))
    assert files.read_bytes(at("a.bin"), 250, 3, opener=opener) == bytes([250, 251, 252])
    assert files.read_bytes(at("a.bin"), 1_000, opener=opener) == b""
    assert files.read_bytes(at("a.bin"), 0, 0, opener=opener) == b""


def test_hash_and_facts_tell_a_file_from_nothing(at, workspace, opener):
    (workspace / "a").write_bytes(b"abc")
    digest = files.sha256(at("a"), opener=opener)
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(at("missing"), opener=opener) is None
    assert files.stat(at("missing"), opener=opener) is None
    found = files.stat(at("a"), opener=opener)
    assert found is not None
    assert (found.kind, found.size) == ("file", 3)


def test_a_root_that_is_a_single_file_can_be_read(at, opener):
    assert files.read_bytes(at("/etc/passwd"), opener=opener).startswith(b"root")
    assert files.sha256(at("/etc/passwd"), opener=opener)


def test_a_listing_names_kinds_in_order(at, workspace, opener):
    (workspace / "b").write_text("12")
    (workspace / "a").mkdir()
    (workspace / "c").symlink_to("b")
    os.mkfifo(workspace / "d")
    entries = files.listing(at("."), opener=opener)
    assert [(entry.name, entry.facts.kind) for entry in entries] == [
        (".ml-intern", "folder"), ("a", "folder"), ("b", "file"), ("c", "link"), ("d", "other"),
    ]  # fmt: skip
    with pytest.raises(ToolFailed, match="no folder"):
        files.listing(at("b"), opener=opener)


def test_a_write_makes_folders_and_leaves_nothing_beside(at, workspace, opener):
    files.write_atomic(at("a/b/c.txt", True), b"one", opener=opener)
    files.write_atomic(at("a/b/c.txt", True), b"two", opener=opener)
    assert (workspace / "a" / "b" / "c.txt").read_bytes() == b"two"
    assert os.listdir(workspace / "a" / "b") == ["c.txt"]


def test_a_write_keeps_mode_and_owner_and_new_files_follow_the_umask(at, workspace, opener):
    target = workspace / "run.sh"
    target.write_text("x")
    target.chmod(0o750)
    if os.geteuid() == 0:
        os.chown(target, 1234, 2345)
    owner = (target.stat().st_uid, target.stat().st_gid)
    files.write_atomic(at("run.sh", True), b"y", opener=opener)
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert (target.stat().st_uid, target.stat().st_gid) == owner
    mask = os.umask(0o027)
    try:
        files.write_atomic(at("new", True), b"y", opener=opener)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((workspace / "new").stat().st_mode) == 0o640


def test_a_write_leaves_the_hard_links_of_a_file_as_they_were(at, workspace, tmp_path, opener):
    outside = tmp_path / "cached"
    outside.write_text("cached")
    os.link(outside, workspace / "a")
    files.write_atomic(at("a", True), b"new", opener=opener)
    assert outside.read_text() == "cached"


@pytest.mark.parametrize(
    "act", [files.read_bytes, files.sha256, files.listing, files.stat], ids=lambda act: act.__name__
)
@pytest.mark.parametrize("path", ["link", "way/file", "way", "dangling", "way/deeper/x"])
def test_links_are_refused_by_name_with_their_target(act, path, at, workspace, tmp_path, opener):
    (workspace / "folder").mkdir()
    (workspace / "folder" / "file").write_text("x")
    (workspace / "link").symlink_to("folder/file")
    (workspace / "way").symlink_to(tmp_path)
    (workspace / "dangling").symlink_to("nowhere")
    with pytest.raises(PathRefused) as refused:
        act(at(path), opener=opener)
    name = path.partition("/")[0]
    target = {"link": f"{workspace}/folder/file", "way": str(tmp_path), "dangling": f"{workspace}/nowhere"}[name]
    assert refused.value.what == f"{workspace}/{name} is a link to {target}, and file tools follow no links."
    assert refused.value.remedy == f"Name {target} itself."


@pytest.mark.parametrize("path", ["link", "way/file", "dangling", "way/new/file"])
def test_no_write_goes_through_a_link(path, at, workspace, tmp_path, opener):
    witness = tmp_path / "outside"
    witness.mkdir()
    (witness / "file").write_text("untouched")
    (workspace / "link").symlink_to(witness / "file")
    (workspace / "way").symlink_to(witness)
    (workspace / "dangling").symlink_to(witness / "born")
    with pytest.raises(PathRefused, match="link"):
        files.write_atomic(at(path, True), b"evil", opener=opener)
    assert os.listdir(witness) == ["file"]
    assert (witness / "file").read_text() == "untouched"


@pytest.mark.timeout(10)
def test_a_fifo_a_socket_and_a_folder_are_refused_without_waiting(at, workspace, opener):
    os.mkfifo(workspace / "fifo")
    (workspace / "folder").mkdir()
    here = os.getcwd()
    os.chdir(workspace)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    os.chdir(here)
    for name, kind in (("fifo", "a FIFO"), ("socket", "a socket"), ("folder", "a folder")):
        for act in (
            lambda name=name: files.read_bytes(at(name), opener=opener),
            lambda name=name: files.sha256(at(name), opener=opener),
            lambda name=name: files.write_atomic(at(name, True), b"x", opener=opener),
        ):
            with pytest.raises((PathRefused, ToolFailed), match=kind):
                act()
    listener.close()


def test_a_device_is_refused(at, workspace, opener):
    try:
        os.mknod(workspace / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device needs root")
    with pytest.raises(PathRefused, match="a device"):
        files.write_atomic(at("null", True), b"x", opener=opener)


def test_a_missing_file_is_answered_with_the_nearest_names(at, workspace, opener):
    (workspace / "src").mkdir()
    (workspace / "src" / "train.py").write_text("")
    (workspace / "src" / "trainer.py").write_text("")
    with pytest.raises(ToolFailed) as failed:
        files.read_bytes(at("src/trian.py"), opener=opener)
    assert failed.value.what == f"{workspace}/src/trian.py does not exist."
    assert "train.py" in failed.value.quoted
    with pytest.raises(ToolFailed, match="there is no folder") as failed:
        files.read_bytes(at("scr/train.py"), opener=opener)
    assert (failed.value.remedy, failed.value.quoted) == (f"Nearest in {workspace}:", "src")


def test_a_near_name_that_is_no_text_can_stand_in_the_record(at, workspace, opener):
    (workspace / os.fsdecode(b"notes\xff.txt")).touch()
    with pytest.raises(ToolFailed) as failed:
        files.read_bytes(at("notes.txt"), opener=opener)
    assert failed.value.remedy == f"Nearest in {workspace}:"
    assert failed.value.quoted == "notes\N{REPLACEMENT CHARACTER}.txt"
    assert failed.value.quoted.encode()


def test_failures_of_the_file_system_are_worded(at, workspace, opener):
    (workspace / "file").write_text("x")
    for act in (files.read_bytes, files.sha256, files.listing):
        with pytest.raises(ToolFailed, match="a part of the path is a file"):
            act(at("file/x"), opener=opener)
    with pytest.raises(ToolFailed, match="a part of the path is a file"):
        files.write_atomic(at("file/x/y", True), b"", opener=opener)
    with pytest.raises(ToolFailed, match="name is too long"):
        files.write_atomic(at("n" * 300, True), b"", opener=opener)
    with pytest.raises(ToolFailed, match="is a folder"):
        files.write_atomic(at(".", True), b"", opener=opener)
    (workspace / "file").chmod(0o444)
    with pytest.raises(ToolFailed, match="write-protected"):
        files.write_atomic(at("file", True), b"", opener=opener)
    assert (workspace / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_file_without_permission_is_worded(at, workspace, opener):
    (workspace / "file").write_text("x")
    (workspace / "file").chmod(0)
    with pytest.raises(ToolFailed, match="permission denied"):
        files.read_bytes(at("file"), opener=opener)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, ToolFailed, "the disk is full"),
        (errno.EDQUOT, ToolFailed, "the disk is full"),
        (errno.EROFS, PathRefused, "read-only"),
        (errno.EACCES, ToolFailed, "permission denied"),
        (errno.EIO, ToolFailed, "input/output error"),
    ],
)
def test_errors_that_no_test_machine_makes_are_worded_too(number, kind, words, at):
    found = opening.worded(OSError(number, os.strerror(number)), at("x"))
    assert isinstance(found, kind)
    assert words in found.what
    assert found.remedy


def test_a_full_disk_leaves_the_old_content_and_nothing_beside(at, workspace, opener):
    (workspace / "a").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ToolFailed):
            files.write_atomic(at("a", True), b"x" * 5000, opener=opener)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(os.listdir(workspace)) == [".ml-intern", "a"]
    assert (workspace / "a").read_text() == "old"


def swapping(folder, link, stop):
    """Exchange the folder and the link again and again, each time in one step (RENAME_EXCHANGE)."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    while not stop.is_set():
        assert renameat2(-100, os.fsencode(folder), -100, os.fsencode(link), 2) == 0


@pytest.mark.parametrize("deep", ["", "/inner/inner"])
def test_a_folder_that_turns_into_a_link_never_lets_a_write_or_read_out(deep, at, workspace, tmp_path, opener):
    witness = tmp_path / "outside"
    for parent in (witness, workspace / "folder"):
        os.makedirs(f"{parent}{deep}")
    secret = witness / f".{deep}" / "file"
    secret.write_bytes(b"untouched")
    target = at(f"folder{deep}/file", True)
    stop = threading.Event()
    (workspace / "link").symlink_to(witness)
    swapper = threading.Thread(target=swapping, args=(workspace / "folder", workspace / "link", stop))
    swapper.start()
    outcomes = {"wrote": 0, "refused": 0}
    try:
        for _ in range(SWAPS):
            try:
                files.write_atomic(target, b"ours", opener=opener)
                assert files.read_bytes(target, opener=opener) != b"untouched"
                outcomes["wrote"] += 1
            except (PathRefused, ToolFailed):
                outcomes["refused"] += 1
    finally:
        stop.set()
        swapper.join()
    assert secret.read_bytes() == b"untouched"
    assert len(os.listdir(secret.parent)) == 1
    # Both must have happened, or the race was none.
    assert min(outcomes.values()) > 0


def test_a_scan_tells_what_was_created_changed_and_removed(roots, workspace):
    for name in ("same", "changed", "removed", "sub/deep/file"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("x")
    (workspace / ".git").mkdir()
    (workspace / ".git" / "index").write_text("x")
    before = scan(roots)
    assert set(before.files) == {"same", "changed", "removed", "sub/deep/file"}
    (workspace / "changed").write_text("xy")
    (workspace / "removed").unlink()
    (workspace / "sub" / "new").write_text("x")
    (workspace / ".git" / "index").write_text("xyz")
    (workspace / "link").symlink_to("/etc")
    assert diff(before, scan(roots)) == (
        Change("changed", "changed"),
        Change("link", "created"),
        Change("removed", "removed"),
        Change("sub/new", "created"),
    )


def test_a_scan_leaves_out_what_a_killed_write_left(roots, workspace):
    (workspace / f"{files.BESIDE}0123.tmp").write_text("x")
    assert scan(roots).files == {}


def test_a_scan_sees_a_change_of_the_same_size(roots, workspace):
    (workspace / "a").write_text("1")
    before = scan(roots)
    time.sleep(0.02)
    (workspace / "a").write_text("2")
    assert diff(before, scan(roots)) == (Change("a", "changed"),)


def test_a_scan_that_hits_its_limit_says_so_and_claims_nothing_it_did_not_see(roots, workspace):
    for number in range(30):
        (workspace / f"{number:02}").write_text("x")
    whole, part = scan(roots), scan(roots, limit=10)
    assert (whole.complete, part.complete, len(part.files)) == (True, False, 10)
    assert diff(whole, part) == ()
    assert diff(part, whole) == ()


def test_a_scan_does_not_follow_links_out(roots, workspace, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (workspace / "way").symlink_to(tmp_path / "outside")
    assert set(scan(roots).files) == {"way"}
