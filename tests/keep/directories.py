"""State directories for tests: written as a server writes them, without one."""

import os

from online.core.journal import Journal
from online.core.sites import Sites
from online.keep.folder import HEAD_BYTES, Folder, Head
from online.keep.recovery import Recovery
from online.keep.snapshots import Snapshot
from online.limits import Limits

NOW_MS = 1_700_000_000_000


def make_sites(**limits):
    return Sites(Limits(**({"max_memory": 2**30} | limits)))


class Writer:
    """Writes the hits of sites to a directory, a turn at a time."""

    def __init__(self, path, sites=None, *, run=1, step_ms=0):
        path.mkdir(exist_ok=True)
        self.folder = Folder(path)
        self.sites = sites or make_sites()
        self.journal = Journal()
        self.journal.change_step(step_ms)
        self.run = run
        self.fd = -1
        self.begin()
        for name, index in self.sites.items():
            self.journal.follow(index, name)
        self.sites.opened.append(self.journal.follow)

    def head(self, kind, number):
        return Head(kind, number, self.journal.clock_step_ms, self.run, NOW_MS)

    def begin(self):
        """Go on in a new segment."""
        number = self.folder.next_number()
        fd = self.folder.create(self.head("journal", number))
        self.journal.begin(fd, number, HEAD_BYTES)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd
        self.path = self.folder.path / f"journal-{number:012}"

    def snapshot(self):
        """Begin a segment, and take a snapshot: the iterator's pieces, then its name."""
        self.begin()
        snapshot = Snapshot(self.folder, self.sites, self.head("snapshot", self.journal.segment))
        yield from snapshot.pieces()
        snapshot.finish()

    def take_snapshot(self):
        for _ in self.snapshot():
            pass

    def close(self):
        self.journal.close()
        self.sites.opened.clear()
        os.close(self.fd)


def recover(path, *, now_ms=NOW_MS, clock_step_ms=0, sets_aside=True, **limits):
    """Read a directory as a server does; return the sites and the report."""
    sites = make_sites(**limits)
    recovery = Recovery(Folder(path), sites, lambda: now_ms, clock_step_ms=clock_step_ms, sets_aside=sets_aside)
    for _ in recovery.pieces():
        pass
    assert recovery.is_done
    for index in sites.values():
        index._check()
    return sites, recovery.report


def sessions(sites, now_ms=NOW_MS):
    """Everybody, as {(site, user): (url, seen_ms, kind)}, and the number of sessions of each site."""
    shown = {}
    for name, index in sites.items():
        cursor = None
        while True:
            listed, cursor = index.recent(1_000, cursor, now_ms=now_ms)
            shown |= {(name, user): rest for user, *rest in listed}
            if cursor is None:
                break
        shown[name] = index.kinds(now_ms=now_ms), index.statistics().users
    return shown
