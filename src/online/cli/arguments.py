"""Parses command lines. Error messages take one line, suggest a correction, and point to the help.

Not here: the commands and their options.
"""

import argparse
import difflib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn
from urllib.parse import quote

from online.terms import span
from online_client.address import DEFAULT_URL, URL_VARIABLE, parse_addresses

WRONG = 2  #: the exit code

#: Of the token that a server wants, here as for `online serve`.
TOKEN_VARIABLE = "ONLINE_TOKEN"

#: One process reads and gathers, so more parsing processes than this cannot help.
MAX_JOBS = 64

#: Units of times, in seconds; the server's settings use the same.
UNITS_S = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}

_WHOLE = re.compile(r"\d{1,18}|\d{1,3}(?:,\d{3}){1,5}|\d{1,3}(?:_\d{3}){1,5}", re.ASCII)
_NEGATIVE = re.compile(r"-\d*\.?\d+", re.ASCII)
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([A-Za-z]*)", re.ASCII)

_MISSING = "the following arguments are required"

#: Messages of argparse, and our wording.
_PLAINER = (
    (r"argument (\S+): (takes .*)", r"\1 \2"),
    (r"argument (\S+): expected one argument", r"\1 needs a value"),
    (r"argument (\S+): expected (\d+) arguments", r"\1 needs \2 values"),
    (r"argument (\S+): (.*)", r"\1: \2"),
    (rf"{_MISSING}: (.*)", r"missing: \1"),
)


class Formatter(argparse.HelpFormatter):
    """Wraps paragraphs, except those with indented lines, such as lists and examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = textwrap.dedent(text).strip().split("\n\n")
        fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        return "\n\n".join(each if "\n " in each else fill(each) for each in paragraphs)


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, with a suggestion, and points to the help."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": Formatter, **options})
        # As of Python 3.14: `-1d` is a value, which may then be refused as what it is.
        self._negative_number_matcher = re.compile(r"-\.?\d")
        self._unknown: str | None = None  #: an option of the arguments that are being parsed

    def error(self, message: str) -> NoReturn:
        unknown, self._unknown = self._unknown, None
        if unknown is not None and message.startswith(_MISSING):  # because of it, something is missing
            self.refuse(unknown)
        self.exit(WRONG, f"{self.prog}: {_plainly(message)}\nsee: {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse arguments. Unknown ones are refused by the innermost parser, whose help is the one to read."""
        self._unknown = self._unknown_option(sys.argv[1:] if args is None else args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown[0])
        return namespace, unknown

    def _unknown_option(self, args: Sequence[str]) -> str | None:
        """Return the first option that is none, up to what begins a command or names alone."""
        commands = next((each.choices for each in self._actions if isinstance(each, argparse._SubParsersAction)), ())
        for arg in args:
            if arg == "--" or arg in commands:
                break
            is_option = len(arg) > 1 and arg[0] in self.prefix_chars and " " not in arg
            if is_option and arg.partition("=")[0] not in self._option_string_actions and not _NEGATIVE.fullmatch(arg):
                return arg
        return None

    def refuse(self, unknown: str) -> NoReturn:
        """Exit with an error about an unknown argument."""
        if not unknown.startswith("-"):
            self.error(f"unexpected argument {unknown!r}")
        option = unknown.partition("=")[0]
        self.error(f"unknown option {option}{did_you_mean(option, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest).lower()
            self.error(f"unknown {what} {value!r}{did_you_mean(str(value), action.choices)}")


def _plainly(message: str) -> str:
    """Reword a message of argparse.

    >>> _plainly("argument --window: takes 1min to 24h, not '5'")
    "--window takes 1min to 24h, not '5'"
    """
    for pattern, plainer in _PLAINER:
        if re.fullmatch(pattern, message, re.DOTALL):
            return re.sub(pattern, plainer, message, flags=re.DOTALL)
    return message


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message that suggests the most similar known word; "" if none is similar.

    >>> did_you_mean("servee", ["serve", "query"])
    '; did you mean serve?'
    >>> did_you_mean("-v", ["--url", "--version"])
    '; did you mean --version?'
    """
    names = {each.lstrip("-"): each for each in known}
    meant = word.lower().lstrip("-")
    near = difflib.get_close_matches(meant, names, n=1, cutoff=0.65)
    begun = [name for name in names if meant and name.startswith(meant)]
    near = near or begun * (len(begun) == 1)
    return f"; did you mean {names[near[0]]}?" if near else ""


# Options and values


def add_server_argument(parser: argparse.ArgumentParser, *, default: Any = None) -> None:
    """Add the option for the address of the server."""
    parser.add_argument(
        "--url",
        dest="server",
        default=default,
        help="the server and site (default: ONLINE_URL, or online://127.0.0.1:8989/default); "
        "ONLINE_TOKEN is its token, if the url has none",
    )


def with_token(url: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of a server, with the token of ONLINE_TOKEN if it has none of its own. Raises AddressError.

    >>> with_token("online://a,b:8990/shop", {"ONLINE_TOKEN": "a/b"})
    'online://:a%2Fb@a,b:8990/shop'
    >>> with_token(None, {"ONLINE_URL": "online+unix:///run/online.sock", "ONLINE_TOKEN": "secret"})
    'online+unix://:secret@/run/online.sock'
    >>> with_token("online://:own@a", {"ONLINE_TOKEN": "secret"})
    'online://:own@a'
    """
    token = environ.get(TOKEN_VARIABLE)
    scheme, slashes, rest = (url or environ.get(URL_VARIABLE) or DEFAULT_URL).partition("://")
    if not token or not slashes or "@" in re.split("[/?]", rest)[0]:
        return url
    parse_addresses(url, environ=environ)  # what is wrong with it is said of what was typed
    return f"{scheme}://:{quote(token, safe='', errors='surrogateescape')}@{rest}"


def url_of_site(url: str | None, site: bytes) -> str:
    r"""Return the address of a server, which must be a good one, with another site in it.

    >>> url_of_site("online://default:token@a,b:8990/", b"shop \xff")
    'online://:token@a,b:8990/shop%20%FF'
    >>> url_of_site("online+unix:///run/online.sock", b"shop")
    'online+unix:///run/online.sock?site=shop'
    """
    scheme, _, rest = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).partition("://")
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    place = f":{user.partition(':')[2]}@{hosts}" if at else hosts
    name = quote(site, safe="")
    if scheme == "online+unix":
        return f"{scheme}://{place}{slash}{path}?site={name}"
    return f"{scheme}://{place}/{name}" + (f"?{query}" if query else "")


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option for how many processes parse."""
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=whole(1, MAX_JOBS),
        default=1,
        help="parse in N processes, for large logs on several processors; the result is the same (default: 1)",
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a function that parses a whole number from `low` to `high`; 1,000,000 and 1_000_000 are numbers, too."""

    def read(text: str) -> int:
        number = int(re.sub("[,_]", "", text)) if _WHOLE.fullmatch(text) else -1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"takes {low:,} to {high:,}, not {text!r}")
        return number

    return read


def time_of(low_s: float, high_s: float) -> Callable[[str], float]:
    """Return a function that parses a time: seconds, or a number and one of UNITS_S."""
    examples = "90, 90s, 30min or 2h" if high_s <= UNITS_S["d"] else "90, 90s, 30min, 2h or 7d"

    def read(text: str) -> float:
        match = _TIME.fullmatch(text)
        seconds = float(match[1]) * UNITS_S[match[2]] if match and match[2] in UNITS_S else -1.0
        if not low_s <= seconds <= high_s:
            raise argparse.ArgumentTypeError(
                f"takes {span(low_s)} to {span(high_s)}, such as {examples}, not {text!r}"
            )
        return seconds

    return read


def whole_time(low_s: int, high_s: int) -> Callable[[str], int]:
    """Return a function that parses a time of whole seconds."""
    read_time = time_of(low_s, high_s)

    def read(text: str) -> int:
        seconds = read_time(text)
        if seconds != int(seconds):
            raise argparse.ArgumentTypeError(f"takes whole seconds, not {text!r}")
        return int(seconds)

    return read
