"""What a run of the benchmarks found: rows, the machine, the versions; kept as JSON that `bench.report` reads.

Not here: measuring, or drawing. A row's target is judged on its median; a missed one is told, and fails nothing.
"""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
FILE = "latest.json"

#: Units by which the report knows what to draw, and where: speed, processor time, latency and memory. Others are in
#: the table alone; "x" is how many times as much.
SPEEDS = ("hits/s", "questions/s")
CPU_TIMES = ("us CPU/hit", "us CPU/question")
LATENCIES = ("us", "ms")
MEMORY = ("bytes/user",)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: what was measured, once a round."""

    group: str
    work: str
    values: tuple[float, ...]
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def has_target(self) -> bool:
        return self.at_least is not None or self.at_most is not None

    @property
    def met(self) -> bool:
        """Tell whether the median keeps to the target, if there is one."""
        low_enough = self.at_most is None or self.median <= self.at_most
        return low_enough and (self.at_least is None or self.median >= self.at_least)


@dataclass(slots=True)
class Results:
    """Everything that one run found."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # what was not measured: why
    failed: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        found = asdict(self)
        rows = ",\n  ".join(json.dumps(row) for row in found.pop("rows"))  # a line each, for those who compare runs
        rest = json.dumps(found, indent=1).removesuffix("\n}")
        path.write_text(f'{rest},\n "rows": [\n  {rows}\n ]\n}}\n')
        return path

    @classmethod
    def read(cls, folder: Path) -> Self:
        found: dict[str, Any] = json.loads((folder / FILE).read_text())
        rows = [Row(**{**row, "values": tuple(row["values"])}) for row in found.pop("rows")]
        return cls(rows=rows, **found)


class Recorder:
    """What the fixture `record` gives to a benchmark."""

    def __init__(self, results: Results, group: str, tell: Callable[[Row], None] = lambda row: None) -> None:
        self._results = results
        self._group = group
        self._tell = tell

    def __call__(
        self,
        work: str,
        values: Sequence[float],
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        note: str = "",
        group: str = "",
    ) -> Row:
        """Keep a row of the report.

        `values` has one figure a round, at least five where it is a ratio; `unit` is one of those above where it can
        be; `at_least` or `at_most` is the target, judged on the median.
        """
        row = Row(group or self._group, work, tuple(values), unit, at_least, at_most, note)
        self._results.rows.append(row)
        self._tell(row)
        return row

    def version(self, name: str, version: str) -> None:
        """Keep the version of a program that was measured."""
        self._results.versions[name] = version


def machine() -> dict[str, str]:
    """The date, the processor and the kernel."""
    facts = {"date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"}
    try:
        found = json.loads(subprocess.run(["lscpu", "-J"], check=True, capture_output=True, text=True).stdout)
        processor = {entry["field"].rstrip(":"): entry["data"] for entry in _flat(found["lscpu"])}
    except (OSError, subprocess.CalledProcessError):  # not Linux
        processor = {"Model name": platform.processor()}
    facts["processor"] = processor["Model name"]
    if "CPU family" in processor:
        facts["processor"] += f" (family {processor['CPU family']}, model {processor['Model']})"
    facts["cores"] = str(os.cpu_count())
    if "L3 cache" in processor:
        facts["L3"] = processor["L3 cache"]
    facts["kernel"] = f"{platform.system()} {platform.release()}"
    return facts


def _flat(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of `lscpu -J`, which newer versions nest."""
    return [inner for entry in entries for inner in [entry, *_flat(entry.get("children", []))]]


def versions() -> dict[str, str]:
    """The versions of what every benchmark rests on, and this project's commit."""
    found = {"online": f"{metadata.version('online')}, commit {_git('rev-parse', '--short', 'HEAD') or 'unknown'}"}
    if _git("status", "--porcelain", "--untracked-files=no"):
        found["online"] += " with changes"
    found["Python"] = platform.python_version()
    for name in ("Cython", "Trio"):
        found[name] = metadata.version(name)
    return found


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip()
