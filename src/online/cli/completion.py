"""`online completion`: what a shell needs to complete commands, options and file names, made from the parsers.

Not here: the shells' languages (shtab).
"""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator

import shtab

from online.cli import main

SHELLS = ("bash", "zsh", "fish")

#: Metavars of what is a file or a directory.
_FILES, _FOLDERS = {"FILE", "LOG", "STATE"}, {"DIR", "DIRECTORY"}

_DESCRIPTION = """\
Write a completion script for a shell to standard output: commands, verbs, options, and names of files where an option
takes one. Run this again after an update."""

_EPILOG = """\
examples:
  online completion bash > ~/.local/share/bash-completion/completions/online
  online completion zsh > ~/.zfunc/_online          where fpath has ~/.zfunc
  online completion fish > ~/.config/fish/completions/online.fish"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online completion`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def run(args: Namespace) -> int:
    """Write the script. Returns 0."""
    parser = main.parser_of(*main.COMMANDS)
    for action in _actions(parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    """Yield the arguments and options of a parser and of those below it."""
    for action in parser._actions:
        yield action
        for below in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            yield from _actions(below)
