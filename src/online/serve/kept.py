"""What is said of the state directory: lines of the log at the start, and the section `persistence` of INFO.

Not its job: what happens there (keeper).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from online.core.journal import Journal
from online.keep.recovery import Recovery, Report
from online.serve.config import Config
from online.serve.settings import shown_sync


class Keeping(Protocol):
    """What a keeper knows."""

    config: Config
    journal: Journal
    report: Report
    is_whole: bool
    is_snapshotting: bool
    errors: int
    last_error: str
    synced_ms: int
    snapshot_ms: int
    snapshot_bytes: int
    snapshot_users: int

    @property
    def journal_bytes(self) -> int: ...
    @property
    def recovery(self) -> Recovery | None: ...


def users(n: int) -> str:
    """Write a number of users."""
    return "1 user" if n == 1 else f"{n:,} users"


def describe(report: Report, path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what was found at the start, and whether it is bad news."""
    if report.taken_over is not None:
        yield from _describe_state_file(report, path)
    for torn, n_bytes in report.torn.items():
        yield f"{torn}: the last {n_bytes} bytes are not a whole record and are left out", False
    for damage in report.damage:
        yield f"{damage.path} is damaged and is kept: {damage.what}", True
    for number in report.missing:
        yield f"{path / f'journal-{number:012}'} is missing", True
    if report.refused:
        yield f"state directory {path}: hits refused at a limit: {report.refused}", True
    if not report.n_applied and report.snapshot is None and report.taken_over is None:
        yield f"state directory {path} holds nobody yet, beginning empty", False
    else:
        yield f"read {users(report.users)} from {path}", False


def _describe_state_file(report: Report, path: Path) -> Iterator[tuple[str, bool]]:
    loaded = report.taken_over
    if loaded is None:
        return
    if loaded.is_empty:
        yield f"state file {path} was empty, 0 bytes: there was nothing to take over. It is a directory now", True
        return
    if loaded.damage:
        yield f"state file {path} was damaged: {loaded.damage}", True
    yield (
        f"took over {users(loaded.users)} from the state file {path}, which is a directory now; "
        f"{loaded.late} more had left the window meanwhile",
        False,
    )


def lines(keeper: Keeping) -> Iterator[tuple[str, object]]:
    """Yield the lines of INFO persistence. Names that Redis has are Redis'."""
    recovery, journal, report = keeper.recovery, keeper.journal, keeper.report
    yield "loading", int(recovery is not None)
    if recovery is not None:
        yield "loading_loaded_perc", f"{100 * recovery.done:.2f}"
        yield "loading_eta_seconds", math.ceil(recovery.left_s)
    yield "sync", shown_sync(keeper.config.sync)
    yield "on_disk_error", keeper.config.on_disk_error
    yield "journal_segment", journal.segment
    yield "journal_bytes", keeper.journal_bytes
    yield "journal_written_bytes", journal.written_bytes
    yield "last_sync_ms", keeper.synced_ms
    yield "snapshot_in_progress", int(keeper.is_snapshotting)
    yield "last_snapshot_ms", keeper.snapshot_ms
    yield "last_snapshot_bytes", keeper.snapshot_bytes
    yield "last_snapshot_users", keeper.snapshot_users
    yield "disk_status", "ok" if keeper.is_whole else "err"
    yield "disk_errors", keeper.errors
    yield "last_disk_error", keeper.last_error
    yield "damaged_files", len(report.damage) + len(report.missing)
    yield "torn_bytes", sum(report.torn.values())
