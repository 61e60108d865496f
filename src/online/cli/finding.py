"""What a look at something found: all is well, something to know, or a problem and the way out of it.

Not here: where to look (health, logcheck, doctor).
"""

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

OK, NOTE, PROBLEM = LEVELS = ("ok", "note", "problem")

_INDENT = 23  #: columns before the text of a finding


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: str  #: one of LEVELS
    about: str  #: a word: server, memory, log ...
    text: str  #: what was found
    todo: str = ""  #: what to do about it; empty if there is nothing to do


def as_text(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """Yield the lines that show findings, each at most `width` columns wide unless a word is longer."""
    for level, about, text, todo in findings:
        yield from _wrapped(f"{level:<9}{about:<14}", text, width)
        if todo:
            yield from _wrapped(f"{'':<{_INDENT - 3}}-> ", todo, width)


def _wrapped(begin: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 2 * _INDENT),
        initial_indent=begin,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
