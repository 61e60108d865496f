"""Manual pages of `online` and of each command, made from what `--help` shows: `make man` writes them to build/man.

They are not kept in the repository, so they cannot be out of date. Not here: the pages of docs/reference.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from docs.site.reference import ROOT, parser_of, subparsers_of, written

from online import __version__
from online.cli import main

FOLDER = ROOT / "build" / "man"

Lines = Iterator[str]


def roff(text: str) -> str:
    r"""Return text as troff shows it, character by character.

    >>> roff("--url '\\d+'")
    "\\-\\-url '\\ed+'"
    """
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def paragraphs(text: str) -> Lines:
    """Yield paragraphs, and lists or examples line by line."""
    for paragraph in dedent(text).strip().split("\n\n"):
        yield ".PP"
        yield from [".nf", roff(paragraph), ".fi"] if "\n " in paragraph else [roff(paragraph)]


def options(parser: argparse.ArgumentParser) -> Lines:
    """Yield what each argument and option is, by group."""
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        shown = [each for each in group._group_actions if each.help is not argparse.SUPPRESS]
        shown = [each for each in shown if not isinstance(each, argparse._HelpAction | argparse._SubParsersAction)]
        if shown and group.title not in ("positional arguments", "options"):
            yield f".SS {roff(group.title or '')}"
        for action in shown:
            yield ".TP"
            yield f"\\fB{roff(written(action))}\\fR"
            yield roff(formatter._expand_help(action) if action.help else "")


def page(name: str, summary: str, parser: argparse.ArgumentParser, others: list[str]) -> Lines:
    """Yield a manual page in the macros of man(7)."""
    title = parser.prog.replace(" ", "-")
    yield f'.TH {roff(title.upper())} 1 "" "online {__version__}" "User commands"'
    yield ".SH NAME"
    yield f"{roff(title)} \\- {roff(summary)}"
    yield ".SH SYNOPSIS"
    yield roff(" ".join(parser.format_usage().removeprefix("usage: ").split()))
    yield ".SH DESCRIPTION"
    yield from paragraphs(parser.description or "")
    rows = list(options(parser))
    if rows:
        yield ".SH OPTIONS"
        yield from rows
    for verb, sub in subparsers_of(parser).items():
        yield f".SH {roff(f'{name} {verb}'.upper())}"
        yield roff(" ".join(sub.format_usage().removeprefix("usage: ").split()))
        yield from paragraphs(sub.description or "")
        yield from options(sub)
    if parser.epilog:
        yield ".SH EXAMPLES AND EXIT CODES"
        yield from paragraphs(parser.epilog)
    yield ".SH SEE ALSO"
    yield ", ".join(f"\\fB{roff(other)}\\fR(1)" for other in others)


def pages() -> dict[str, str]:
    """Return all pages by the names of their files."""
    made = {}
    top = main.parser_of()
    names = [f"online-{name}" for name in main.COMMANDS]
    made["online.1"] = "\n".join(page("online", "who is online now, and on which page", top, names))
    for name, (_, summary) in main.COMMANDS.items():
        made[f"online-{name}.1"] = "\n".join(page(name, summary, parser_of(name), ["online"]))
    return {name: f"{text}\n" for name, text in made.items()}


def write(folder: Path) -> None:
    """Write all pages, for MANPATH as `folder`."""
    (folder / "man1").mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / "man1" / name).write_text(text)


if __name__ == "__main__":
    write(FOLDER)
    print(f"To read one: MANPATH={FOLDER} man online-serve")
