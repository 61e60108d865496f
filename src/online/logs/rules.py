"""Rules for what counts as a page view and who its user is, set by a TOML file and by options.

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
    """What counts as a page view, and who its user is. The defaults suit a web site."""

    keep_params: tuple[str, ...] = ()  #: query parameters to keep in urls; the others are removed
    rewrite: tuple[tuple[str, str], ...] = ()  #: pairs of pattern and replacement, applied in order
    not_pages: frozenset[str] = FILES  #: file extensions that are not pages
    methods: frozenset[str] = METHODS
    with_host: bool = False  #: begin urls with the host of the request
    guests_only: bool = False  #: ignore user names in lines: everyone is a guest
    visitor: str = ""  #: the field, directive or variable that identifies a guest, such as %{session}C
    keep_addresses: bool = False  #: use addresses as the names of guests
    trust_proxy: tuple[Network, ...] = ()  #: the proxies whose X-Forwarded-For is trusted
    bots: tuple[str, ...] = ()  #: patterns of user agents that are bots, in addition to the built-in list
    guest_key: Path | None = None  #: the file with the key for names of guests


# Rules from a file, and from the command line


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("takes a list of strings")
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
        raise ValueError("takes a list of pairs: a pattern and its replacement")
    for old, new in pairs:
        try:
            # The empty alternative always matches, so the replacement is expanded and checked.
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
        raise ValueError("takes a string that is not empty")
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
        raise ConfigError(f"{path}: unknown rule {key}; the rules are {', '.join(_READ)}")
    try:
        return _READ[key](value)
    except ValueError as error:
        raise ConfigError(f"{path}: {key} {error}") from None


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for what counts as a page view and who its user is."""
    group = parser.add_argument_group("page views and users")
    group.add_argument(
        "--rules", metavar="FILE", type=Path, help=f"read rules from a TOML file, with any of {', '.join(_READ)}"
    )
    group.add_argument(
        "--keep-param", metavar="NAME", action="append", help="keep this query parameter in urls; others are removed"
    )
    group.add_argument(
        "--rewrite",
        metavar=("PATTERN", "NEW"),
        nargs=2,
        action="append",
        help=r"replace PATTERN in every url, such as '/page/\d+$' ''; a url that is empty then is not a page",
    )
    group.add_argument("--with-host", action="store_true", default=None, help="begin urls with the host of the request")
    group.add_argument(
        "--guests-only",
        action="store_true",
        default=None,
        help="ignore user names in logs: for sites where the web server itself does not check passwords",
    )
    group.add_argument(
        "--visitor",
        metavar="FIELD",
        help="identify guests by this field instead of the address: a JSON field, or %%{NAME}C in a LogFormat",
    )
    group.add_argument(
        "--keep-addresses", action="store_true", default=None, help="use addresses as the names of guests, unhashed"
    )
    group.add_argument(
        "--guest-key",
        metavar="FILE",
        type=Path,
        help="the key for names of guests, created if missing; use the same key on all web servers of a site",
    )
    group.add_argument(
        "--trust-proxy",
        metavar="NETWORK",
        type=_network_argument,
        action="append",
        help="trust the X-Forwarded-For of requests from this network, such as 10.0.0.0/8",
    )
    group.add_argument(
        "--bot",
        metavar="PATTERN",
        action="append",
        help="user agents that match are bots too, such as '^OurMonitor/'",
    )


def _network_argument(text: str) -> Network:
    try:
        return read_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def rules_from(args: argparse.Namespace) -> Rules:
    """Return the rules from the options of `add_rule_arguments`. Options override the file."""
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
