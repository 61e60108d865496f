"""All errors of the server, and the messages of those that several modules raise.

    OnlineError                 code    raised when
    ├── CommandError            ERR     a verb is unknown, or has the wrong number of arguments
    ├── RangeError              RANGE   a value is outside its limits (also a ValueError)
    ├── FullError               FULL    a limit on users, pages, sites or memory is reached
    │   └── NotServedError      NOSITE  a site that is on another server
    ├── MovedError              MOVED   the user is of a slot that another server has
    ├── TokenWantedError        NOAUTH  a token is required first
    ├── WrongTokenError         WRONGPASS  the token is wrong
    ├── NotPermittedError       NOPERM  the token does not allow it
    ├── ProtocolVersionError    NOPROTO HELLO asks for a version of RESP other than 2 or 3
    ├── TransactionError        EXECABORT  EXEC does nothing, because a verb before it was wrong
    ├── LoadingError            LOADING the server still reads what it kept on disk
    ├── PartialError            PARTIAL from a gateway: a partition that is needed does not answer
    ├── DiskRefusedError        MISCONF the disk or the bus fails, and the operator wants no hits that may be lost
    ├── FramingError            PROTO   bytes are not a message; the connection is closed
    ├── ConfigError             -       an option, variable or configuration file is wrong
    └── StateError              -       a state file cannot be read or written

A message says what was wrong, the limit, and the value, escaped and cut to 64 bytes. Framing errors are worded where a
frame is read, errors about files and options in their module.
"""

import difflib
from collections.abc import Iterable
from typing import TypeVar

from online.terms import KINDS, SEEN_MAX_MS, SEEN_MIN_MS

#: How much of a value an error message shows.
SHOWN_BYTES = 64

#: Larger numbers are not exact in every language.
LARGEST_EXACT = 2**53

_ESCAPES = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}


class OnlineError(Exception):
    """Base class of all errors of the server. `code` is the first word of the reply."""

    code = "ERR"
    field: str | None = None  #: which argument is wrong,
    limit: object = None  #: what it may be at most,
    value: object = None  #: and what it is, as far as each is known


class CommandError(OnlineError):
    code = "ERR"


class RangeError(OnlineError, ValueError):
    code = "RANGE"


class FullError(OnlineError):
    code = "FULL"


class NotServedError(FullError):
    code = "NOSITE"


class MovedError(OnlineError):
    code = "MOVED"


class TokenWantedError(OnlineError):
    code = "NOAUTH"


class WrongTokenError(OnlineError):
    code = "WRONGPASS"


class NotPermittedError(OnlineError):
    code = "NOPERM"


class ProtocolVersionError(OnlineError):
    code = "NOPROTO"


class TransactionError(OnlineError):
    code = "EXECABORT"


class LoadingError(OnlineError):
    code = "LOADING"


class PartialError(OnlineError):
    code = "PARTIAL"


class DiskRefusedError(OnlineError):
    code = "MISCONF"


class FramingError(OnlineError):
    code = "PROTO"


class ConfigError(OnlineError):
    """The message is one line that names the option, the variable, or the file with line and key."""


class StateError(OnlineError):
    """The message is one line that names the state file and what is wrong with it."""


E = TypeVar("E", bound=OnlineError)


def with_facts(error: E, field: str, limit: object, value: object) -> E:
    """Return `error`, which knows what it is about: dialects that can tell more than a line do so."""
    if isinstance(value, int) and abs(value) > LARGEST_EXACT:
        value = _digits(value)
    error.field, error.limit, error.value = field, limit, value
    return error


def quote(value: bytes) -> str:
    r"""Return `value` in double quotes, printable and on one line, cut to its first 64 bytes.

    >>> quote(b'a "b"\r\n\xff')
    '"a \\"b\\"\\r\\n\\xff"'
    """
    shown = "".join(
        _ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in value[:SHOWN_BYTES]
    )
    return f'"{shown}"' + ("..." if len(value) > SHOWN_BYTES else "")


def shown(value: bytes) -> str:
    """Return `value` as in `quote`, without the quotes, and without a sign that it was cut."""
    return quote(value[:SHOWN_BYTES])[1:-1]


def _digits(number: int) -> str:
    """Return a number as text. Python refuses to convert more than 4,300 digits."""
    if number.bit_length() > 8 * SHOWN_BYTES // 3:
        return f"a number of {number.bit_length()} bits"
    return str(number)


def bad_name(what: str, name: bytes, limit: int) -> RangeError:
    """A user or url that is empty, or longer than `limit` bytes."""
    if not name:
        return with_facts(RangeError(f"{what} is empty; it takes 1 to {limit} bytes"), what, limit, 0)
    message = f"{what} has {len(name)} bytes, the limit is {limit}: {quote(name)}"
    return with_facts(RangeError(message), what, limit, len(name))


def bad_seen(seen_ms: int) -> RangeError:
    """When a hit is said to have happened, outside the plausible range."""
    return bad_time("seen_ms", seen_ms)


def bad_time(what: str, at_ms: int) -> RangeError:
    """A time outside the plausible range of milliseconds since 1970."""
    hint = ""
    if SEEN_MIN_MS <= at_ms * 1000 <= SEEN_MAX_MS:
        hint = "; that looks like seconds"
    elif SEEN_MIN_MS <= at_ms // 1000 <= SEEN_MAX_MS:
        hint = "; that looks like microseconds"
    message = f"{what} takes milliseconds since 1970, {SEEN_MIN_MS} to {SEEN_MAX_MS}, not {_digits(at_ms)}{hint}"
    return with_facts(RangeError(message), what, [SEEN_MIN_MS, SEEN_MAX_MS], at_ms)


def partial_minute(step_s: int) -> RangeError:
    """A step of history that is not whole minutes."""
    message = f"step_s takes whole minutes, such as 60, 600 or 3600, not {step_s}"
    return with_facts(RangeError(message), "step_s", None, step_s)


def too_many_rows(count: int, limit: int, step_s: int) -> RangeError:
    """More rows of history than an answer may have."""
    message = f"{count} rows in one answer, the most is {limit}; take longer steps"
    return with_facts(RangeError(message), "step_s", None, step_s)


def wrong_way(from_ms: int, to_ms: int) -> RangeError:
    """A history that ends before it begins."""
    return with_facts(RangeError(f"from_ms is {from_ms}, which is after to_ms, {to_ms}"), "from_ms", to_ms, from_ms)


def bad_number(what: str, value: int, low: int, high: int) -> RangeError:
    """A number outside `low` to `high`."""
    message = f"{what} takes {low} to {high}, not {_digits(value)}"
    return with_facts(RangeError(message), what, [low, high], value)


def not_a_number(what: str, value: bytes) -> RangeError:
    """A value that should be a 64-bit integer and is not."""
    return with_facts(RangeError(f"{what} takes a whole number, not {quote(value)}"), what, None, shown(value))


def bad_escape(what: str, escape: bytes) -> RangeError:
    """A percent sign in a url or form, without two hexadecimal digits behind it."""
    message = f"{what} contains {quote(escape)}, which is not a valid percent-escape; write a percent sign as %25"
    return with_facts(RangeError(message), what, None, shown(escape))


def not_text(what: str) -> RangeError:
    """A boolean, a fraction, an array or a map instead of a name or number."""
    return RangeError(f"{what} takes text or a whole number, not a boolean, fraction, array or map")


def bad_kind(kind: bytes) -> RangeError:
    """A kind other than the four."""
    message = f"kind takes {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {quote(kind)}"
    return with_facts(RangeError(message), "kind", list(KINDS), shown(kind))


def bad_cursor(cursor: bytes) -> RangeError:
    """A cursor that does not come from a reply of this server to the same question."""
    message = (
        f"cursor must be the one from the last reply to the same question, not {quote(cursor)}; "
        "leave it out to start again"
    )
    return with_facts(RangeError(message), "cursor", None, shown(cursor))


def too_many(what: str, count: int, limit: int) -> RangeError:
    """More names in one question than a reply may contain."""
    return with_facts(RangeError(f"{count} {what} in one question, max_limit is {limit}"), what, limit, count)


def within_one_page(remedy: str = 'leave the url empty: COUNT "" within_s') -> RangeError:
    """`within_s` together with a url."""
    # `remedy` says in the words of who asks how to leave the url out.
    message = f"within_s counts the whole site only; {remedy}"
    return with_facts(RangeError(message), "within_s", None, None)


def scan_too_long(prefix: bytes, limit: int) -> RangeError:
    """A section with more pages than may be added up."""
    message = f"more than {limit} pages, the limit max_scan, begin with {quote(prefix)}; ask for a longer prefix"
    return with_facts(RangeError(message), "prefix", limit, shown(prefix))


def implausible_clock(now_ms: int) -> ConfigError:
    """A system clock that is not set."""
    return ConfigError(f"the system clock says {now_ms} ms since 1970, which cannot be right; set it first")


def full(what: str, limit: int) -> FullError:
    """A limit that is reached. `what` is its name, such as max_users."""
    message = f"{what} is reached: {limit}; the hit was refused and nothing has changed"
    return with_facts(FullError(message), what, limit, None)


def not_served(site: bytes) -> NotServedError:
    """A site that is not among those that this server has."""
    return NotServedError(f"the site {quote(site)} is not on this server (its setting `sites`); nothing has changed")


def moved(slot: int, owner: str) -> MovedError:
    """A hit of a user who is another server's. The words are those of Redis Cluster, `SLOT HOST:PORT`."""
    return MovedError(f"{slot} {owner}")


def other_map(own: str, given: str) -> LoadingError:
    """Who asks divides users among servers in another way than we do; one of the two has not read its map yet."""
    message = f"the map here is {own}, and who asks has {quote(given.encode())}; send SIGHUP to who is behind"
    return LoadingError(message)


def unknown_verb(verb: bytes, known: Iterable[str] = ()) -> CommandError:
    """A verb that is not among the `known`, with the one that was probably meant.

    Verbs of Redis that this server does not have are often near others. Who mistypes gets the first letter right.
    """
    word = verb[:SHOWN_BYTES].upper().decode("ascii", "replace")
    near = difflib.get_close_matches(word, [name for name in known if name[:1] == word[:1]], n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else "COMMAND LIST shows all verbs"
    return CommandError(f"unknown verb {quote(verb)}; {hint}")


def wrong_arity(verb: str, usage: str, count: int) -> CommandError:
    """Too few or too many arguments."""
    return CommandError(f"wrong number of arguments for {verb}: {count}; usage: {usage}")


def bad_hit() -> RangeError:
    """An item of a batch that is not a hit."""
    return RangeError("a hit is an array [user, url, seen_ms, kind] of text or numbers; the last two are optional")


def token_wanted(verb: bytes) -> TokenWantedError:
    """A verb before AUTH, if a token is configured."""
    return TokenWantedError(f"{quote(verb)} needs a token first: AUTH [site] token")


def unknown_subcommand(verb: str, word: bytes, known: str) -> CommandError:
    """A verb followed by a word that is not one of its subcommands."""
    return CommandError(f"{verb} takes {known}, not {quote(word)}")


def bad_client_name(name: bytes) -> CommandError:
    """A client name that does not fit on one line of CLIENT LIST."""
    return CommandError(f"a client name takes printable ASCII without spaces, not {quote(name)}")


def bad_database(number: bytes) -> RangeError:
    """SELECT with a number other than 0. Sites have names."""
    return RangeError(
        f"SELECT takes only 0, not {quote(number)}; to choose a site, use SITE name, "
        "or write its name as the user of the address: redis://NAME:TOKEN@HOST"
    )


def bad_version(version: bytes) -> ProtocolVersionError:
    """HELLO with a version of RESP that this server does not speak."""
    return ProtocolVersionError(f"HELLO takes version 2 or 3, not {quote(version)}")


def wrong_token() -> WrongTokenError:
    """A token other than the configured one."""
    return WrongTokenError("the token is wrong")


def token_revoked() -> TokenWantedError:
    """The token of a connection is no longer in the file, or has another role there."""
    return TokenWantedError("the token of this connection was taken back or changed; connect again")


def not_permitted(what: str, role: str) -> NotPermittedError:
    """Something for which the token has too low a role."""
    return NotPermittedError(f"a token with the role {role} is needed for {what}")


def not_public(what: str) -> NotPermittedError:
    """Something that strangers may not have."""
    return NotPermittedError(f"{what} are not public; strangers may have count, page:URL and section:PREFIX")


def other_site(site: bytes, own: bytes) -> NotPermittedError:
    """A site other than the one that the token is for."""
    return NotPermittedError(f"the token is for the site {quote(own)}, not {quote(site)}")


def too_many_connections() -> OnlineError:
    """A connection beyond max_connections. Worded as in Redis, whose clients recognise this and retry."""
    return OnlineError("max number of clients reached")


def too_slow_frame(timeout_s: float) -> FramingError:
    """A message that was not complete in time."""
    return FramingError(f"a message must be complete {timeout_s:g} s after its first byte")


def too_slow_auth(timeout_s: float) -> TokenWantedError:
    """No token in time, where one is needed."""
    return TokenWantedError(f"no token within {timeout_s:g} s; send it first: AUTH [site] token")


def too_much_waiting(limit: int) -> FullError:
    """The connection with the most waiting data, when max_buffers is reached."""
    return FullError(f"max_buffers is reached: {limit}; this connection has the most data waiting and is closed")


def bad_setting(where: str, takes: str, value: str, hint: str = "") -> ConfigError:
    """A setting with an invalid value. `where` is its option, variable, or line and key; `hint` says what is wrong."""
    shown = quote(value.encode(errors="surrogateescape"))
    return ConfigError(f"{where} takes {takes}, not {shown}" + (f"; {hint}" if hint else ""))


def bad_secret(where: str, takes: str, hint: str = "") -> ConfigError:
    """A setting with an invalid value that must not be shown; `hint` says what is wrong."""
    return ConfigError(f"{where} takes {takes}; {hint or 'the one given does not fit'}")


def unknown_key(where: str, near: str | None) -> ConfigError:
    """An unknown key in a configuration file. `near` is the setting that was probably meant."""
    return ConfigError(f"{where} is not a setting" + (f"; did you mean {near}?" if near else ""))


def more_packages(what: str, why: ImportError, extra: str) -> ConfigError:
    """Something needs packages that are not installed; `extra` brings them, as in the documentation."""
    return ConfigError(f"{what} needs more packages ({why}): pip install '{extra}' in a checkout of online")


def same_file(one: str, other: str, path: object) -> ConfigError:
    """An output file that is also an input or another output."""
    return ConfigError(f"{one} and {other} are the same file, {path}; choose another")


def unusable_file(where: str, path: object, why: Exception) -> ConfigError:
    """A file in a setting that cannot be read or written."""
    return ConfigError(f"{where} {path}: {getattr(why, 'strerror', None) or why}")


def no_cluster() -> CommandError:
    """CLUSTER, worded as Redis does: its clients know it."""
    return CommandError("This instance has cluster support disabled")


def no_such_client(address: bytes) -> CommandError:
    """CLIENT KILL of an address that nobody has."""
    return CommandError(f"no such client: {quote(address)}; CLIENT LIST shows the address of each as addr=")


def killed() -> OnlineError:
    """The last reply to a connection that somebody else ended."""
    return OnlineError("this connection was ended by CLIENT KILL")


def listening() -> CommandError:
    """A verb that cannot come between the messages of RESP2, as in Redis."""
    return CommandError(
        "only SUBSCRIBE, UNSUBSCRIBE, PING, QUIT and RESET are taken while this connection is subscribed; "
        "after HELLO 3 all verbs are"
    )


def bad_channel(channel: bytes) -> CommandError:
    """A channel of no known kind."""
    shown = quote(channel)
    told = f"there is no channel {shown}; it takes count, top, page:URL, section:PREFIX or user:NAME"
    return with_facts(CommandError(told), "channel", None, None)


def too_many_subscriptions(limit_name: str, limit: int) -> FullError:
    """More subscriptions than a connection, or all together, may have."""
    return with_facts(FullError(f"{limit_name} is reached: {limit}; nothing was subscribed"), limit_name, limit, None)


def in_transaction(verb: str) -> CommandError:
    """MULTI, WATCH or SUBSCRIBE after MULTI, worded as in Redis."""
    if verb == "MULTI":
        return CommandError("MULTI calls can not be nested")
    return CommandError(f"{verb} inside MULTI is not allowed")


def no_transaction(verb: str) -> CommandError:
    """EXEC or DISCARD without MULTI, worded as in Redis."""
    return CommandError(f"{verb} without MULTI")


def spoiled_transaction() -> TransactionError:
    """EXEC after a wrong verb, worded as in Redis."""
    return TransactionError("Transaction discarded because of previous errors.")


def transaction_too_long(limit: int, what: str) -> RangeError:
    """More verbs or bytes between MULTI and EXEC than may be kept."""
    return RangeError(f"a transaction takes at most {limit} {what} between MULTI and EXEC")
