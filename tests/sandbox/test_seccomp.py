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


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the program as the kernel would (classic BPF, the instructions that it uses)."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
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
