"""How errors are worded: what was wrong, the limit, and the value, on one printable line."""

import doctest

import pytest

from online import errors
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

NOW_S = 1_700_000_000


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(errors).failed == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", '""'),
        (b"theo", '"theo"'),
        (b"a b", '"a b"'),
        (b"\0", r'"\x00"'),
        (b"a\r\nb\tc", r'"a\r\nb\tc"'),
        (b'say "hi"', r'"say \"hi\""'),
        (b"back\\slash", r'"back\\slash"'),
        (b"\x7f\x80\xff", r'"\x7f\x80\xff"'),
        ("é".encode(), r'"\xc3\xa9"'),
        (b"x" * 64, '"' + "x" * 64 + '"'),
        (b"x" * 65, '"' + "x" * 64 + '"...'),
        (b"\n" * 2048, '"' + r"\n" * 64 + '"...'),
    ],
)
def test_quote_is_printable_on_one_line_and_short(value, shown):
    assert errors.quote(value) == shown


def test_quote_shows_every_byte_in_printable_ascii():
    shown = [errors.quote(bytes([byte])) for byte in range(256)]
    assert all(text.isascii() and text.isprintable() for text in shown)
    assert len(set(shown)) == 256


def test_empty_name():
    assert str(errors.bad_name("user", b"", 256)) == "user is empty; it takes 1 to 256 bytes"


def test_long_name():
    error = errors.bad_name("url", b"/" * 2049, 2048)
    assert str(error) == f'url has 2049 bytes, the limit is 2048: "{"/" * 64}"...'


@pytest.mark.parametrize("seen_ms", [NOW_S, NOW_S + 1, SEEN_MIN_MS // 1000])
def test_seconds_are_recognised(seen_ms):
    wanted = f"seen_ms takes milliseconds since 1970, {10**11} to {10**14}"
    assert str(errors.bad_seen(seen_ms)) == f"{wanted}, not {seen_ms}; that looks like seconds"


@pytest.mark.parametrize("seen_ms", [NOW_S * 10**6, SEEN_MAX_MS + 1, SEEN_MAX_MS * 1000])
def test_microseconds_are_recognised(seen_ms):
    assert str(errors.bad_seen(seen_ms)).endswith(f"not {seen_ms}; that looks like microseconds")


def test_numbers_of_any_length_are_told_shortly():
    assert str(errors.bad_seen(10**5000)).endswith("not a number of 16610 bits")
    assert str(errors.bad_number("limit", -(10**5000), 0, 9)).endswith("not a number of 16610 bits")


@pytest.mark.parametrize("seen_ms", [0, -1, -NOW_S, 12_345, NOW_S * 10**9, 2**63, -(2**70)])
def test_other_times_get_no_hint(seen_ms):
    assert str(errors.bad_seen(seen_ms)).endswith(f"not {seen_ms}")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.bad_number("limit", 1001, 0, 1000), "limit takes 0 to 1000, not 1001"),
        (errors.bad_number("limit", 2**70, 0, 1000), f"limit takes 0 to 1000, not {2**70}"),
        (errors.not_a_number("limit", b"3\n0"), r'limit takes a whole number, not "3\n0"'),
        (errors.bad_kind(b"boss"), 'kind takes member, guest, hidden or bot, not "boss"'),
        (errors.too_many("users", 1001, 1000), "1001 users in one question, max_limit is 1000"),
        (
            errors.bad_cursor(b"x\r\n"),
            r'cursor must be the one from the last reply to the same question, not "x\r\n"; '
            "leave it out to start again",
        ),
        (
            errors.scan_too_long(b"/", 100_000),
            'more than 100000 pages, the limit max_scan, begin with "/"; ask for a longer prefix',
        ),
        (errors.within_one_page(), 'within_s counts the whole site only; leave the url empty: COUNT "" within_s'),
        (errors.unknown_verb(b"GET /"), 'unknown verb "GET /"; COMMAND LIST shows all verbs'),
    ],
)
def test_message_names_what_the_limit_and_the_value(error, message):
    assert str(error) == message


def test_full_names_the_limit():
    error = errors.full("max_users", 3)
    assert str(error) == "max_users is reached: 3; the hit was refused and nothing has changed"
    assert error.code == "FULL"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("CommandError", "ERR"),
        ("RangeError", "RANGE"),
        ("FullError", "FULL"),
        ("TokenWantedError", "NOAUTH"),
        ("WrongTokenError", "WRONGPASS"),
        ("ProtocolVersionError", "NOPROTO"),
        ("FramingError", "PROTO"),
    ],
)
def test_every_error_has_its_code_and_stands_in_the_tree(name, code):
    error = getattr(errors, name)
    assert error.code == code
    assert issubclass(error, errors.OnlineError)
    assert name in errors.__doc__


def test_a_value_out_of_range_is_a_value_error():
    assert issubclass(errors.RangeError, ValueError)
