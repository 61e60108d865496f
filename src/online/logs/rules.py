"""What is a page view, and who is the user: the rules that an operator sets, by a TOML file and by options.

Not here: applying them (pages).
"""

import argparse
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from online import errors
from online.errors import ConfigError
from online_client.addresses import Network as Network
from online_client.addresses import read_network as read_network
from online_client.pageviews import FILES, METHODS


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is a page view, and who is the user. The defaults suit a web site."""

    keep_params: tuple[str, ...] = ()  #: parameters of the query that tell pages apart; all others go
    rewrite: tuple[tuple[str, str], ...] = ()  #: pattern and replacement, one after the other
    not_pages: frozenset[str] = FILES  #: extensions
    methods: frozenset[str] = METHODS
    with_host: bool = False  #: begin urls with the host that was asked
    guests_only: bool = False  #: nobody is logged in by the web server, whatever name a line has
    visitor: str = ""  #: the field, directive or variable that knows a guest again, such as %{session}C
    keep_addresses: bool = False  #: name guests by their addresses
    trust_proxy: tuple[Network, ...] = ()  #: whose X-Forwarded-For is believed
    bots: tuple[str, ...] = ()  #: patterns of agents that are bots, beside those that are known
    guest_key: Path | None = None  #: the file of the key that names guests


# Rules from a file, and from the command line


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("takes a list of text")
    return tuple(value)


def _networks(value: Any) -> tuple[Network, ...]:
    return tuple(map(read_network, _texts(value)))


def _patterns(value: Any) -> tuple[str, ...]:
    patterns = _texts(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"takes regular expressions; {pattern!r}: {error}") from None
    return patterns


def _rewrites(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple(map(_texts, value)) if isinstance(value, list) else ()
    if not isinstance(value, list) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("takes a list of pairs: a pattern, and what replaces it")
    for old, new in pairs:
        try:
            # An alternative that matches nothing, so that the replacement is expanded, and checked.
            re.sub(b"(?:" + old.encode() + b")|$", new.encode(), b"")
        except (re.error, IndexError) as error:
            raise ValueError(f"takes regular expressions; {old!r} -> {new!r}: {error}") from None
    return tuple((old, new) for old, new in pairs)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("takes true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("takes text")
    return value


_READ: Mapping[str, Callable[[Any], Any]] = {
    "keep_params": _texts,
    "rewrite": _rewrites,
    "not_pages": lambda value: frozenset(each.removeprefix(".") for each in _texts(value)),
    "methods": lambda value: frozenset(_texts(value)),
    "with_host": _switch,
    "guests_only": _switch,
    "visitor": _text,
    "keep_addresses": _switch,
    "trust_proxy": _networks,
    "bots": _patterns,
    "guest_key": lambda value: Path(_text(value)),
}


def load_rules(path: Path) -> Rules:
    """Read rules from a TOML file. Raises ConfigError that names the file and the key."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise errors.unusable_file("rules", path, error) from None
    except ValueError as error:  # of decoding, or of TOML
        raise ConfigError(f"{path}: {error}") from None
    return replace(Rules(), **{key: _value(path, key, value) for key, value in document.items()})


def _value(path: Path, key: str, value: Any) -> Any:
    if key not in _READ:
        raise ConfigError(f"{path}: {key} is no rule, they are {', '.join(_READ)}")
    try:
        return _READ[key](value)
    except ValueError as error:
        raise ConfigError(f"{path}: {key} {error}") from None


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell what is a page view, and who is the user."""
    group = parser.add_argument_group("page views and users")
    group.add_argument("--rules", metavar="FILE", type=Path, help=f"a TOML file with any of {', '.join(_READ)}")
    group.add_argument(
        "--keep-param", metavar="NAME", action="append", help="a parameter of the query that tells pages apart"
    )
    group.add_argument(
        "--rewrite",
        metavar=("PATTERN", "NEW"),
        nargs=2,
        action="append",
        help=r"replace in every url, such as '/page/\d+$' ''; a url of which nothing is left is no page",
    )
    group.add_argument("--with-host", action="store_true", default=None, help="begin urls with the host that was asked")
    group.add_argument(
        "--guests-only",
        action="store_true",
        default=None,
        help="believe no user's name: for sites where the web server itself does not ask for a password",
    )
    group.add_argument(
        "--visitor",
        metavar="FIELD",
        help="what knows a guest again, better than the address does: a field of JSON, or %%{NAME}C of a LogFormat",
    )
    group.add_argument(
        "--keep-addresses", action="store_true", default=None, help="name guests by their addresses, in clear"
    )
    group.add_argument(
        "--guest-key",
        metavar="FILE",
        type=Path,
        help="the key of guests' names, made if it is missing; give all web servers of a site the same",
    )
    group.add_argument(
        "--trust-proxy",
        metavar="NETWORK",
        type=_network_argument,
        action="append",
        help="believe the X-Forwarded-For of requests that come from there, such as 10.0.0.0/8",
    )
    group.add_argument(
        "--bot",
        metavar="PATTERN",
        action="append",
        help="an agent in which this is found is a bot, beside those that are known, such as '^OurMonitor/'",
    )


def _network_argument(text: str) -> Network:
    try:
        return read_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def rules_from(args: argparse.Namespace) -> Rules:
    """Make the rules that the options of `add_rule_arguments` describe; an option goes before the file."""
    rules = Rules() if args.rules is None else load_rules(args.rules)
    given = {
        "keep_params": args.keep_param and tuple(args.keep_param),
        "rewrite": args.rewrite and _checked("--rewrite", _rewrites, args.rewrite),
        "with_host": args.with_host,
        "guests_only": args.guests_only,
        "visitor": args.visitor,
        "keep_addresses": args.keep_addresses,
        "guest_key": args.guest_key,
        "trust_proxy": args.trust_proxy and tuple(args.trust_proxy),
        "bots": args.bot and _checked("--bot", _patterns, args.bot),
    }
    return replace(rules, **{name: value for name, value in given.items() if value is not None})


def _checked(option: str, read: Callable[[Any], Any], given: Any) -> Any:
    try:
        return read(given)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None
