"""Faults planted on purpose: each breaks a promise of the server, and a run of the simulation must notice.

A fault is a context in which runs are broken; it yields what is done to each server of a run.
"""

from contextlib import contextmanager
from unittest.mock import patch

import msgpack

from online.core.replay import Replay
from online.core.sites import DEFAULT_SITE, Sites
from online.keep import recovery, snapshots
from online.keep.folder import Folder
from online.serve import housekeeping
from online.serve.clock import Clock
from online.serve.connections import Connections
from online.serve.keeper import Keeper
from online.serve.streams import Streams

FAULTS = {}


def fault(plant):
    """A fault, under the name of its function."""
    FAULTS[plant.__name__] = contextmanager(plant)
    return plant


def nothing(*_arguments, **_named):
    """Do not."""


async def nothing_async(*_arguments, **_named):
    """Do not, and do not wait."""


@fault
def sessions_expire_a_second_late():
    made = Sites.__init__

    def longer(self, limits, *, window_s=1_800):
        made(self, limits, window_s=window_s + 1)

    with patch.object(Sites, "__init__", longer):
        yield nothing


@fault
def sites_are_mixed_up():
    opened = Sites.open
    with patch.object(Sites, "open", lambda self, name: opened(self, DEFAULT_SITE)):
        yield nothing


def without(unwanted):
    """`dump` that leaves out frames of some method."""
    dumped = snapshots.dump

    def dump(index, **named):
        for frames in dumped(index, **named):
            unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
            unpacker.feed(frames)
            kept = [frame for frame in unpacker if not unwanted(frame)]
            yield b"".join(msgpack.packb(frame, unicode_errors="surrogateescape") for frame in kept)

    return patch.object(snapshots, "dump", dump)


@fault
def a_snapshot_forgets_who_has_left():
    with without(lambda frame: frame[1] == "LEAVE"):
        yield nothing


@fault
def a_snapshot_forgets_its_first_record():
    dumped = snapshots.dump

    def dump(index, **named):
        yield from list(dumped(index, **named))[1:]

    with patch.object(snapshots, "dump", dump):
        yield nothing


@fault
def answers_leave_before_the_journal_is_written():
    with patch.object(Streams, "_settle", nothing_async):
        yield nothing


@fault
def nothing_is_synced():
    with patch.object(Keeper, "_sync_all", nothing):
        yield nothing


@fault
def a_failing_disk_is_not_noticed():
    def failed(self, error, what):
        self.journal.give_up(is_lost=False)

    with patch.object(Keeper, "_failed", failed):
        yield nothing


@fault
def the_segment_in_use_is_deleted():
    pruned = Folder.prune

    def prune(self):
        pruned(self)
        for kept in self.kept("journal")[-1:]:
            kept.path.unlink()

    with patch.object(Folder, "prune", prune):
        yield nothing


@fault
def the_newest_segment_is_not_read():
    read = recovery.Recovery._read_journal
    with patch.object(recovery.Recovery, "_read_journal", lambda self, kept, begun: read(self, kept[:-1], begun)):
        yield nothing


@fault
def a_clock_that_was_set_is_not_followed():
    with patch.object(Clock, "follow", lambda self: 0):
        yield nothing


@fault
def ages_do_not_survive_a_clock_that_was_set():
    with patch.object(recovery.Recovery, "_find_shifts", lambda self: {}):
        yield nothing


@fault
def records_are_not_checked():
    """What a write that was cut off has left is taken for a record."""

    class Trusting(Replay):
        def feed(self, data, segment, offset, *, now_ms):
            used = super().feed(data, segment, offset, now_ms=now_ms)
            return len(data) if self.is_bad else used

    def is_record(self, fd, number, place):
        return True

    with patch.object(recovery, "Replay", Trusting), patch.object(recovery.Recovery, "_is_record", is_record):
        yield nothing


@contextmanager
def nobody_expires_in_the_background():
    """No fault: answers do not depend on it."""
    with patch.object(housekeeping, "expire", nothing_async):
        yield nothing


@fault
def a_connection_is_never_forgotten():
    with patch.object(Connections, "closed", nothing):
        yield nothing
