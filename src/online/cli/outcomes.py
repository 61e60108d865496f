"""What happened to the lines of logs: counts by reason, and their wording.

Not here: the reasons (pages).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from online.cli.words import many
from online.errors import quote
from online.logs.hitlog import LogError
from online.logs.pages import NO_PAGE_VIEW

Name = TypeVar("Name", str, bytes)

#: How many lines that were not understood are kept as examples.
MAX_SAMPLES = 5

BOT, NOT_UNDERSTOOD = "bot", "not_understood"

#: How to describe reasons in a table. Others are shown in their own words.
_WORDS = {
    "file": "requests for files: images, styles, scripts and so on",
    BOT: "page views by bots",
    "aside": "prefetches, and parts of pages",
    "status": "statuses other than 200, 203, 206 and 304",
    "method": "methods other than GET, HEAD and POST",
    "target": "urls that do not begin with /",
    "rewrite": "urls that are empty after a rewrite",
    NOT_UNDERSTOOD: "not understood",
}


def ranked(counts: Mapping[Name, int], most: int | None = None) -> list[tuple[Name, int]]:
    """Return what was counted, `most` of it or all, the most first; equals by name, in whatever order they came."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return rows[:most]


class Sample(NamedTuple):
    """A line that was not understood: its log, its number from 1, its text, quoted and cut, and the reason."""

    log: str
    number: int
    text: str
    reason: str


class Outcomes:
    """Counts lines, and keeps the first few that were not understood."""

    def __init__(self) -> None:
        self.lines = 0
        self.hits = 0
        self.left_out: Counter[str] = Counter()  #: by the name of the reason
        self.samples: list[Sample] = []
        self._reasons: Counter[str] = Counter()  #: why lines were not understood

    @property
    def not_understood(self) -> int:
        return self.left_out[NOT_UNDERSTOOD]

    @property
    def is_nothing_understood(self) -> bool:
        """Whether there were lines, and none of them was understood."""
        return self.lines > 0 and self.not_understood == self.lines

    def take(self, reason: str, line: bytes, log: str = "", number: int = 0) -> None:
        """Count a line that did not give a hit."""
        name = NO_PAGE_VIEW.get(reason, NOT_UNDERSTOOD)
        self.left_out[name] += 1
        if name != NOT_UNDERSTOOD:
            return
        told = reason.partition('"')[0].rstrip(" :,").removesuffix(", not")  # without the text quoted from the line
        self._reasons[told] += 1
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(log, number, quote(line), reason))

    def take_all(
        self, reasons: Sequence[str], places: Sequence[int], lines: Sequence[bytes], log: str = "", first: int = 0
    ) -> None:
        """Count lines that did not give a hit, each with its reason: those at `places` in `lines`, from 0.

        `first` is the number of the first of `lines`.
        """
        counts = Counter(reasons)
        known = counts.keys() & NO_PAGE_VIEW.keys()
        self.left_out.update({NO_PAGE_VIEW[reason]: counts[reason] for reason in known})
        if len(known) < len(counts):
            for reason, place in zip(reasons, places, strict=True):
                if reason not in NO_PAGE_VIEW:
                    self.take(reason, lines[place], log, first + place)

    def add(self, later: "Outcomes") -> None:
        """Add what happened to later lines."""
        self.lines += later.lines
        self.hits += later.hits
        self.left_out.update(later.left_out)
        self.samples += later.samples[: MAX_SAMPLES - len(self.samples)]
        self._reasons.update(later._reasons)

    def table(self) -> Iterator[str]:
        """Yield a row for each reason with its count, largest first."""
        left_out = sorted(self.left_out.items())
        counts = Counter({in_words(name): n for name, n in left_out if name != NOT_UNDERSTOOD})
        counts += Counter({f"{in_words(NOT_UNDERSTOOD)}: {reason}": n for reason, n in self._reasons.items()})
        rows = counts.most_common()
        digits = max((len(f"{number:,}") for _, number in rows), default=0)
        return (f"{number:>{digits},}  {words}" for words, number in rows)

    def in_short(self, hits: str = "page view") -> str:
        """Return a summary such as `12 lines: 6 page views, 5 left out, 1 not understood`."""
        bad = self.not_understood
        others = self.left_out.total() - bad
        return f"{many(self.lines, 'line')}: {many(self.hits, hits)}, {others:,} left out, {bad:,} not understood"


def is_empty_log(error: LogError) -> bool:
    """Return whether the error is that a log has no lines."""
    return str(error).endswith(" is empty")


def in_words(name: str) -> str:
    """Describe a reason by its name.

    >>> in_words("not_understood")
    'not understood'
    """
    return _WORDS.get(name, name)
