import errno
import struct

import pytest

from ml_intern.sandbox import seccomp

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "x86_64": {"read": 0, "clone": 56, "unshare": 272, "socket": 41, "ioctl": 16, "mount": 165, "clone3": 435},
    "aarch64": {"read": 63, "clone": 220, "unshare": 97, "socket": 198, "ioctl": 29, "mount": 40, "clone3": 435},
}
machines = pytest.mark.parametrize("machine", ARCH)


def refused(error: int) -> int:
    return 0x00050000 | error


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None, program: bytes | None = None) -> int:
    """Run the program as the kernel would (classic BPF, the instructions that it uses)."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    steps = list(struct.iter_unpack("=HBBI", program or seccomp.program(machine)))
    at = loaded = 0
    while True:
        code, when_true, when_false, value = steps[at]
        at += 1
        match code:
            case 0x20:
                loaded = struct.unpack_from("=I", data, value)[0]
            case 0x15:
                at += when_true if loaded == value else when_false
            case 0x35:
                at += when_true if loaded >= value else when_false
            case 0x45:
                at += when_true if loaded & value else when_false
            case 0x54:
                loaded &= value
            case 0x06:
                return value
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@machines
def test_ordinary_calls_are_allowed(machine: str):
    assert verdict(machine, NUMBERS[machine]["read"], 0, 0, 0) == ALLOWED


@machines
def test_mounts_are_denied(machine: str):
    assert verdict(machine, NUMBERS[machine]["mount"]) == refused(errno.EPERM)


@machines
def test_clone3_does_not_exist(machine: str):
    assert verdict(machine, NUMBERS[machine]["clone3"]) == refused(errno.ENOSYS)


@machines
@pytest.mark.parametrize("flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_a_new_namespace_is_denied_and_a_thread_or_a_fork_is_not(machine: str, flag: int):
    clone, unshare = NUMBERS[machine]["clone"], NUMBERS[machine]["unshare"]
    assert verdict(machine, clone, flag | 17) == verdict(machine, unshare, flag) == refused(errno.EPERM)
    assert verdict(machine, clone, 0x003D0F00) == verdict(machine, clone, 17) == ALLOWED
    assert verdict(machine, unshare, 0x400) == ALLOWED


@machines
def test_only_local_internet_and_netlink_sockets_exist(machine: str):
    socket = NUMBERS[machine]["socket"]
    allowed = {family for family in range(64) if verdict(machine, socket, family) == ALLOWED}
    assert allowed == {1, 2, 10, 16}
    assert verdict(machine, socket, 40) == refused(errno.EAFNOSUPPORT)
    assert verdict(machine, socket, 1 << 32 | 40) == refused(errno.EAFNOSUPPORT)


@machines
def test_terminal_input_is_denied_whatever_the_high_bits_say(machine: str):
    ioctl = NUMBERS[machine]["ioctl"]
    for request in (0x5412, 0x541C, 1 << 32 | 0x5412):
        assert verdict(machine, ioctl, 0, request) == refused(errno.EPERM)
    assert verdict(machine, ioctl, 0, 0x5413) == ALLOWED


CHANGES = {
    "x86_64": {
        "chmod": (90, 1),
        "fchmod": (91, 1),
        "fchmodat": (268, 2),
        "fchmodat2": (452, 2),
        "creat": (85, 1),
        "mknod": (133, 1),
    },
    "aarch64": {"fchmod": (52, 1), "fchmodat": (53, 2), "fchmodat2": (452, 2), "mknodat": (33, 2)},
}
OPENS = {"x86_64": {"open": (2, 1), "openat": (257, 2)}, "aarch64": {"openat": (56, 2)}}


@machines
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6000])
def test_no_file_is_made_that_runs_as_its_owner(machine: str, mode: int):
    for number, at in CHANGES[machine].values():
        assert verdict(machine, number, *[0] * at, mode) == refused(errno.EPERM)
        assert verdict(machine, number, *[0] * at, 0o1777) == ALLOWED
    for number, at in OPENS[machine].values():
        for creates in (0o100, 0o20000000):
            assert verdict(machine, number, *[0] * at, creates, mode) == refused(errno.EPERM)
            assert verdict(machine, number, *[0] * at, creates, 0o666) == ALLOWED
        assert verdict(machine, number, *[0] * at, 0, mode) == ALLOWED
    assert verdict(machine, 437) == refused(errno.ENOSYS)


@machines
def test_another_architecture_is_killed(machine: str):
    assert verdict(machine, 0, arch=0x40000003) == KILLED


def test_the_x32_numbers_are_killed():
    assert verdict("x86_64", 0x40000000) == verdict("x86_64", 0x40000000 | 41, 40) == KILLED


def test_an_unknown_machine_has_no_program():
    with pytest.raises(KeyError):
        seccomp.program("riscv64")


ASKED = 0x7FC00000
BY_WALLS = {
    "x86_64": {"chmod": 90, "fchmod": 91, "fchmodat2": 452, "fchownat": 260, "utimensat": 280, "kill": 62}
    | {"socketpair": 53, "sendto": 44, "sendmsg": 46, "prlimit": 302, "fcntl": 72, "setxattr": 188, "shmat": 30},
    "aarch64": {"chmod": 53, "fchmod": 52, "fchmodat2": 452, "fchownat": 54, "utimensat": 88, "kill": 129}
    | {"socketpair": 199, "sendto": 206, "sendmsg": 211, "prlimit": 261, "fcntl": 25, "setxattr": 5, "shmat": 196},
}


def at_walls(machine: str, name: str, *arguments: int, asks_signals: bool = False) -> int:
    program = seccomp.walls_program(machine, asks_signals=asks_signals)
    number = (NUMBERS[machine] | BY_WALLS[machine])[name]
    return verdict(machine, number, *arguments, program=program)


@machines
def test_at_walls_the_keeper_is_asked_about_what_landlock_does_not_see(machine: str):
    assert {at_walls(machine, name) for name in ("chmod", "fchmod", "fchmodat2", "fchownat", "utimensat")} == {ASKED}
    # A mode that sets an id is refused, whoever asks.
    assert at_walls(machine, "fchmodat2", 0, 0, 0o4755) == refused(errno.EPERM)
    assert at_walls(machine, "fchmod", 3, 0o2755) == refused(errno.EPERM)
    assert at_walls(machine, "kill", 1, 9) == ALLOWED
    assert at_walls(machine, "kill", 1, 9, asks_signals=True) == ASKED


@machines
def test_at_walls_only_streams_that_landlock_sees_are_made(machine: str):
    made = {
        (family, kind, protocol)
        for family in range(48)
        for kind in range(1, 7)
        for protocol in (0, 6, 17, 132, 262)
        if at_walls(machine, "socket", family, kind | 0o2000000, protocol) == ALLOWED
    }
    assert made == {(family, 1, protocol) for family in (2, 10) for protocol in (0, 6)}
    assert at_walls(machine, "socketpair", 1, 1, 0) == ALLOWED
    assert at_walls(machine, "socketpair", 1, 2, 0) == refused(errno.EACCES)
    assert at_walls(machine, "sendto", 3, 0, 0, 0x20000000) == refused(errno.EPERM)
    assert at_walls(machine, "sendmsg", 3, 0, 0x20000000) == refused(errno.EPERM)
    assert at_walls(machine, "sendmsg", 3, 0, 0x4000) == ALLOWED


@machines
def test_at_walls_what_all_processes_of_a_user_share_is_denied(machine: str):
    assert at_walls(machine, "shmat") == at_walls(machine, "prlimit", 77) == refused(errno.EPERM)
    assert at_walls(machine, "prlimit", 0) == ALLOWED
    assert at_walls(machine, "setxattr") == refused(errno.ENOTSUP)
    assert at_walls(machine, "fcntl", 3, 8) == refused(errno.EPERM)
    assert at_walls(machine, "fcntl", 3, 3) == ALLOWED
    # What level full denies, walls denies too.
    assert at_walls(machine, "mount") == refused(errno.EPERM)
    assert at_walls(machine, "clone3") == refused(errno.ENOSYS)
