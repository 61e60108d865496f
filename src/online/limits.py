"""The limits of a server, with their names and defaults. Nothing grows without a limit."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

KIB = 1024
MIB = 1024 * KIB

#: How long a connection has to read its last reply.
FAREWELL_S = 1.0

#: How long the answer to a wrong token is held back.
WRONG_TOKEN_DELAY_S = 0.5

#: How long no connection is accepted after accept(2) failed for lack of descriptors or memory.
ACCEPT_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server. Each can be set by option, environment variable or configuration file."""

    max_connections: int = 10_000
    max_frame: int = MIB  #: bytes in one message
    max_frame_before_auth: int = 4 * KIB
    max_items: int = 65_536  #: items in one array of a message
    max_depth: int = 4  #: arrays within arrays in a message
    max_user: int = 256  #: bytes
    max_url: int = 2_048  #: bytes
    max_users: int = 10_000_000  #: per site, including users who left
    max_pages: int = 10_000_000  #: per site
    max_sites: int = 1_024
    max_memory: int | None = None  #: bytes for all sites; None for 75 % of what the process may use
    max_limit: int = 1_000  #: users in one reply, or names in one question
    max_scan: int = 100_000  #: pages that SECTION adds up
    max_output: int = 256 * KIB  #: bytes of waiting output; beyond it, the input of a connection is not read
    max_buffers: int = 256 * MIB  #: bytes of waiting input and output of all connections
    send_timeout_s: float = 10.0  #: without progress in sending
    frame_timeout_s: float = 30.0  #: from the first byte of a message to its last
    auth_timeout_s: float = 5.0  #: until the token has come, if one is required
    max_subscriptions: int = 100  #: channels of one connection
    max_all_subscriptions: int = 1_000_000  #: of all connections
    push_interval_s: float = 1.0  #: between two states of a channel


#: What messages and questions are judged by: a gateway goes by those of its servers.
JUDGED = ("max_frame", "max_items", "max_depth", "max_user", "max_url", "max_limit", "max_scan")

#: The share of the usable memory that all sites together may take, unless max_memory is set.
MEMORY_SHARE = 0.75


def default_max_memory(root: Path = Path("/")) -> int:
    """Return MEMORY_SHARE of the memory that this process may use, in bytes.

    That is the smallest of the machine's memory, the limits of the process' control groups (version 2 and 1), and
    RLIMIT_AS. `root` is the folder that contains /proc and /sys.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    usable = [physical, *_control_group_limits(root)]
    if address_space != resource.RLIM_INFINITY:
        usable.append(address_space)
    return int(min(usable) * MEMORY_SHARE)


def _control_group_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits of the control groups of this process, up to the outermost visible one."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the one on the host. Folders that do not exist here are skipped.
        path = PurePosixPath(group.lstrip("/"))
        for folder in (path, *path.parents):
            for limit in _lines(mount / folder / name):
                if limit.isdigit():  # "max" means no limit
                    yield int(limit)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
