"""Runs a command under the filters of system calls that a systemd unit asks for: confine.py UNIT COMMAND…

As systemd builds them (src/shared/seccomp-util.c): SystemCallFilter=, SystemCallErrorNumber=, RestrictAddressFamilies=,
RestrictNamespaces=, MemoryDenyWriteExecute=, LockPersonality=. A setting that is missing is not applied.
"""

import errno
import mmap
import os
import subprocess
import sys

import seccomp

# asm-generic/mman-common.h, linux/sched.h, sys/shm.h
SHM_EXEC = 0o100000
NAMESPACES = 0x7E020080


def settings(path):
    """The settings of a unit; one that is given several times has several values."""
    found = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                found.setdefault(name, []).append(value)
    return found


def members(name):
    """The calls of a group, as this systemd has them."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout
    lines = (line.strip() for line in text.splitlines()[1:])
    return set().union(*(members(line) for line in lines if line and not line.startswith("#")))


def allowed(filters):
    """What is left when each list that begins with ~ has been taken away."""
    calls = set()
    for value in filters:
        names = set().union(*(members(name) for name in value.removeprefix("~").split()))
        calls = calls - names if value.startswith("~") else calls | names
    return calls


def refuse(*rules):
    """A filter that lets everything pass but what these rules name."""
    taken = seccomp.SyscallFilter(seccomp.ALLOW)
    for number, call, *arguments in rules:
        taken.add_rule(seccomp.ERRNO(number), call, *arguments)
    taken.load()


def has(position, bits):
    return seccomp.Arg(position, seccomp.MASKED_EQ, bits, bits)


def confine(unit):
    """Applies the filters; that of the allowed calls last, for it allows no other."""
    filters = allowed(unit["SystemCallFilter"])
    number = getattr(errno, unit["SystemCallErrorNumber"][0])
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        refuse(
            (errno.EPERM, "mmap", has(2, both)),
            (errno.EPERM, "mprotect", has(2, mmap.PROT_EXEC)),
            (errno.EPERM, "pkey_mprotect", has(2, mmap.PROT_EXEC)),
            (errno.EPERM, "shmat", has(2, SHM_EXEC)),
        )
    if unit.get("RestrictNamespaces") == ["yes"]:
        flags = [1 << bit for bit in range(32) if NAMESPACES >> bit & 1]
        refuse(
            (errno.EPERM, "setns"),
            (errno.ENOSYS, "clone3"),
            *((errno.EPERM, call, has(0, flag)) for call in ("clone", "unshare") for flag in flags),
        )
    if unit.get("LockPersonality") == ["yes"]:
        refuse((errno.EPERM, "personality", seccomp.Arg(0, seccomp.NE, 0)))
    families = {getattr(__import__("socket"), name) for name in unit["RestrictAddressFamilies"][0].split()}
    others = (family for family in range(1, 64) if family not in families)
    refuse(*((errno.EAFNOSUPPORT, "socket", seccomp.Arg(0, seccomp.EQ, family)) for family in others))
    last = seccomp.SyscallFilter(seccomp.ERRNO(number))
    for call in sorted(filters):
        try:
            last.add_rule(seccomp.ALLOW, call)
        except RuntimeError:
            # Of another architecture.
            pass
    last.load()


if __name__ == "__main__":
    confine(settings(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
