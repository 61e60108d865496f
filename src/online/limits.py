"""The limits of a server: every name and default of them, so that nothing grows without a bound."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

KIB = 1024
MIB = 1024 * KIB

#: How long a connection is given to take its last reply.
FAREWELL_S = 1.0

#: How long nobody is accepted after accept(2) failed for want of descriptors or memory.
ACCEPT_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server. Every one can be set by option, environment variable or configuration file."""

    max_connections: int = 10_000
    max_frame: int = MIB  #: bytes of one message
    max_frame_before_auth: int = 4 * KIB
    max_items: int = 65_536  #: items of one array in a message
    max_depth: int = 4  #: arrays within arrays in a message
    max_user: int = 256  #: bytes
    max_url: int = 2_048  #: bytes
    max_users: int = 10_000_000  #: of one site, departed ones too
    max_pages: int = 10_000_000  #: of one site
    max_sites: int = 1_024
    max_memory: int | None = None  #: bytes of all sites; None: 75 % of what the process may use
    max_limit: int = 1_000  #: users in one reply, names in one question
    max_scan: int = 100_000  #: pages that SECTION adds up
    max_output: int = 256 * KIB  #: bytes of output that wait; beyond it, a connection's input is not read
    max_buffers: int = 256 * MIB  #: bytes of waiting input and output of all connections
    send_timeout_s: float = 10.0  #: without progress in sending
    frame_timeout_s: float = 30.0  #: from the first byte of a message to its last
    auth_timeout_s: float = 5.0  #: until the first message, where a token is needed


#: How much all sites together may take of the memory that the process may use, unless max_memory is set.
MEMORY_SHARE = 0.75


def default_max_memory(root: Path = Path("/")) -> int:
    """Return MEMORY_SHARE of what this process may use, in bytes.

    That is the least of the machine's memory, the limits of the control groups that the process is in
    (version 2 and 1), and RLIMIT_AS. `root` is where /proc and /sys are looked for.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    usable = [physical, *_control_group_limits(root)]
    if address_space != resource.RLIM_INFINITY:
        usable.append(address_space)
    return int(min(usable) * MEMORY_SHARE)


def _control_group_limits(root: Path) -> Iterator[int]:
    """Yield the memory limit of each control group that holds this process, up to the outermost in sight."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the group may have the name that the host sees: what is not there is skipped.
        path = PurePosixPath(group.lstrip("/"))
        for folder in (path, *path.parents):
            for limit in _lines(mount / folder / name):
                if limit.isdigit():  # "max" is none
                    yield int(limit)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
