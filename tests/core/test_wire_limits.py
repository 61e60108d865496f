"""Bad input on the wire: an error says what, the limit and the value; nothing changes, nobody else is disturbed."""

import struct

import msgpack
import pytest
from tests.wiring import (
    CODES,
    DIALECTS,
    NOW,
    RespError,
    Wiring,
    as_bytes,
    ask,
    feed,
    head_of_batch,
    notification,
    one_pack,
    one_resp,
    read_pack,
    read_resp,
    request,
    resp,
)

from online.core.index import Index
from online.errors import OnlineError

#: A name with everything in it that could break a line, and how errors show it.
NASTY = b"\0 \"\r\n'\xff"
NASTY_SHOWN = r'"\x00 \"\r\n' + "'" + r'\xff"'

NOT_SEEN_MS = f"seen_ms takes milliseconds since 1970, {10**11} to {10**14}, not"
NOT_A_CURSOR = "cursor must be the one from the last reply to the same question, not"

BAD_INPUT = [
    # verbs
    ("NOSUCHVERB", [], 'ERR unknown verb "NOSUCHVERB"'),
    ("", [], 'ERR unknown verb ""'),
    ("HIT\0", ["a", "/x"], r'ERR unknown verb "HIT\x00"'),
    ("HI", ["a", "/x"], 'ERR unknown verb "HI"'),
    ("HITSANDMORETHANTHAT", [], 'ERR unknown verb "HITSANDMORETHANTHAT"'),
    ("x" * 70, [], f'ERR unknown verb "{"x" * 64}"...'),
    (NASTY, [], f"ERR unknown verb {NASTY_SHOWN};"),
    # numbers of arguments
    ("HIT", [], "ERR wrong number of arguments for HIT: 0; usage: HIT user url [seen_ms [kind]]"),
    ("hit", ["a"], "ERR wrong number of arguments for HIT: 1; usage: HIT user url [seen_ms [kind]]"),
    ("HIT", ["a", "/x", NOW, "guest", 1], "ERR wrong number of arguments for HIT: 5;"),
    ("LEAVE", [], "ERR wrong number of arguments for LEAVE: 0; usage: LEAVE user [seen_ms]"),
    ("LEAVE", ["a", NOW, 1], "ERR wrong number of arguments for LEAVE: 3;"),
    ("COUNT", ["/x", 5, 5], "ERR wrong number of arguments for COUNT: 3; usage: COUNT [url [within_s]]"),
    ("COUNTS", [], "ERR wrong number of arguments for COUNTS: 0; usage: COUNTS url [url ...]"),
    ("KINDS", ["/x", ""], "ERR wrong number of arguments for KINDS: 2;"),
    ("PAGE", [], "ERR wrong number of arguments for PAGE: 0; usage: PAGE url [limit [cursor]]"),
    ("PAGE", ["/x", 1, "", ""], "ERR wrong number of arguments for PAGE: 4;"),
    ("RECENT", [1, "", ""], "ERR wrong number of arguments for RECENT: 3;"),
    ("USERS", ["", 1, "", ""], "ERR wrong number of arguments for USERS: 4;"),
    ("SEEN", [], "ERR wrong number of arguments for SEEN: 0; usage: SEEN user [user ...]"),
    ("SECTION", [], "ERR wrong number of arguments for SECTION: 0; usage: SECTION prefix"),
    ("ECHO", [], "ERR wrong number of arguments for ECHO: 0; usage: ECHO text"),
    ("PING", ["a", "b"], "ERR wrong number of arguments for PING: 2; usage: PING [text]"),
    ("TIME", ["a", "b"], "ERR wrong number of arguments for TIME: 2;"),
    # names
    ("HIT", ["", "/x"], "RANGE user is empty; it takes 1 to 256 bytes"),
    ("HIT", [None, "/x"], "RANGE user is empty; it takes 1 to 256 bytes"),
    ("HIT", ["a", ""], "RANGE url is empty; it takes 1 to 2048 bytes"),
    ("HIT", ["a", None], "RANGE url is empty; it takes 1 to 2048 bytes"),
    ("HIT", ["u" * 257, "/x"], f'RANGE user has 257 bytes, the limit is 256: "{"u" * 64}"...'),
    ("HIT", ["a", "/" * 2049], f'RANGE url has 2049 bytes, the limit is 2048: "{"/" * 64}"...'),
    ("HIT", [b"\xff" * 257, "/x"], rf'RANGE user has 257 bytes, the limit is 256: "{chr(92) + "xff"}'),
    ("HIT", [NASTY * 40, "/x"], f"RANGE user has {len(NASTY) * 40} bytes, the limit is 256: {NASTY_SHOWN[:-1]}"),
    ("HIT", ["a" * 1_000_000, "/x"], "RANGE user has 1000000 bytes, the limit is 256"),
    ("LEAVE", ["u" * 257], "RANGE user has 257 bytes, the limit is 256"),
    ("LEAVE", [""], "RANGE user is empty"),
    ("COUNT", ["/" * 2049], "RANGE url has 2049 bytes"),
    ("KINDS", ["/" * 2049], "RANGE url has 2049 bytes"),
    ("PAGE", [""], "RANGE url is empty"),
    ("PAGE", ["/" * 2049], "RANGE url has 2049 bytes"),
    ("COUNTS", ["/x", ""], "RANGE url is empty"),
    ("COUNTS", ["/x", "/" * 2049], "RANGE url has 2049 bytes"),
    ("SEEN", ["a", ""], "RANGE user is empty"),
    ("SEEN", ["a", "u" * 257], "RANGE user has 257 bytes"),
    ("USERS", ["u" * 257], "RANGE prefix has 257 bytes, the limit is 256"),
    ("PAGES", ["/", 0], "RANGE limit takes 1 to 1000, not 0"),
    ("PAGES", ["/", 1, "/" * 2049], "RANGE after has 2049 bytes, the limit is 2048"),
    ("SECTION", ["/" * 2049], "RANGE prefix has 2049 bytes, the limit is 2048"),
    # times
    ("HIT", ["a", "/x", -1], f"RANGE {NOT_SEEN_MS} -1"),
    ("HIT", ["a", "/x", 0], f"RANGE {NOT_SEEN_MS} 0"),
    ("HIT", ["a", "/x", NOW // 1000], f"RANGE {NOT_SEEN_MS} {NOW // 1000}; that looks like seconds"),
    ("HIT", ["a", "/x", NOW * 1000], f"RANGE {NOT_SEEN_MS} {NOW * 1000}; that looks like microseconds"),
    ("HIT", ["a", "/x", NOW * 10**6], f"RANGE {NOT_SEEN_MS} {NOW * 10**6}"),
    ("HIT", ["a", "/x", 10**11 - 1], f"RANGE {NOT_SEEN_MS} {10**11 - 1}"),
    ("HIT", ["a", "/x", 10**14 + 1], f"RANGE {NOT_SEEN_MS} {10**14 + 1}"),
    ("HIT", ["a", "/x", 2**63 - 1], f"RANGE {NOT_SEEN_MS} {2**63 - 1}"),
    ("HIT", ["a", "/x", 2**63], f"RANGE seen_ms takes {10**11} to {10**14}, not {2**63}"),
    ("HIT", ["a", "/x", 2**64 - 1], f"RANGE seen_ms takes {10**11} to {10**14}, not {2**64 - 1}"),
    ("HIT", ["a", "/x", str(-(2**63) - 1)], f"RANGE seen_ms takes {10**11} to {10**14}, not {-(2**63) - 1}"),
    ("HIT", ["a", "/x", "9" * 64], f"RANGE seen_ms takes {10**11} to {10**14}, not a number of"),
    ("HIT", ["a", "/x", "9" * 5000], f'RANGE seen_ms takes a whole number, not "{"9" * 64}"...'),
    ("HIT", ["a", "/x", "soon"], 'RANGE seen_ms takes a whole number, not "soon"'),
    ("HIT", ["a", "/x", "1.7e12"], 'RANGE seen_ms takes a whole number, not "1.7e12"'),
    ("HIT", ["a", "/x", f"+{NOW}"], f'RANGE seen_ms takes a whole number, not "+{NOW}"'),
    ("HIT", ["a", "/x", f" {NOW}"], f'RANGE seen_ms takes a whole number, not " {NOW}"'),
    ("HIT", ["a", "/x", f"{NOW}\n"], rf'RANGE seen_ms takes a whole number, not "{NOW}\n"'),
    ("HIT", ["a", "/x", "-"], 'RANGE seen_ms takes a whole number, not "-"'),
    ("HIT", ["a", "/x", "\u0661"], r'RANGE seen_ms takes a whole number, not "\xd9\xa1"'),
    ("HIT", ["a", "/x", "0x18bcfe56800"], 'RANGE seen_ms takes a whole number, not "0x18bcfe56800"'),
    ("LEAVE", ["a", -1], f"RANGE {NOT_SEEN_MS} -1"),
    ("LEAVE", ["a", "soon"], 'RANGE seen_ms takes a whole number, not "soon"'),
    # kinds
    ("HIT", ["a", "/x", NOW, "boss"], 'RANGE kind takes member, guest, hidden or bot, not "boss"'),
    ("HIT", ["a", "/x", NOW, "Member"], 'RANGE kind takes member, guest, hidden or bot, not "Member"'),
    ("HIT", ["a", "/x", "", "departed"], 'RANGE kind takes member, guest, hidden or bot, not "departed"'),
    ("HIT", ["a", "/x", "", NASTY], f"RANGE kind takes member, guest, hidden or bot, not {NASTY_SHOWN}"),
    ("HIT", ["a", "/x", "", "k" * 65], f'RANGE kind takes member, guest, hidden or bot, not "{"k" * 64}"...'),
    # limits
    ("PAGE", ["/x", 1001], "RANGE limit takes 0 to 1000, not 1001"),
    ("PAGE", ["/x", -1], "RANGE limit takes 0 to 1000, not -1"),
    ("PAGE", ["/x", "ten"], 'RANGE limit takes a whole number, not "ten"'),
    ("PAGE", ["/x", 2**64 - 1], f"RANGE limit takes 0 to 1000, not {2**64 - 1}"),
    ("RECENT", [1001], "RANGE limit takes 0 to 1000, not 1001"),
    ("RECENT", [-1], "RANGE limit takes 0 to 1000, not -1"),
    ("USERS", ["", 1001], "RANGE limit takes 0 to 1000, not 1001"),
    ("USERS", ["", "-1"], "RANGE limit takes 0 to 1000, not -1"),
    ("COUNT", ["", 0], "RANGE within_s takes 1 to 1800, not 0"),
    ("COUNT", ["", 1801], "RANGE within_s takes 1 to 1800, not 1801"),
    ("COUNT", ["", "x"], 'RANGE within_s takes a whole number, not "x"'),
    ("COUNT", ["/x", 5], "RANGE within_s counts the whole site"),
    ("SEEN", ["a"] * 1001, "RANGE 1001 users in one question, max_limit is 1000"),
    ("COUNTS", ["/x"] * 1001, "RANGE 1001 urls in one question, max_limit is 1000"),
    # cursors
    ("PAGE", ["/x", 1, "x"], f'RANGE {NOT_A_CURSOR} "x"'),
    ("PAGE", ["/x", 1, NASTY], f"RANGE {NOT_A_CURSOR} {NASTY_SHOWN}"),
    ("PAGE", ["/x", 1, 5], f'RANGE {NOT_A_CURSOR} "5"'),
    ("PAGE", ["/x", 1, "c" * 100_000], f'RANGE {NOT_A_CURSOR} "{"c" * 64}"...'),
    ("PAGE", ["/x", 1, "18bcfe56800-0." + "0" * 16], f'RANGE {NOT_A_CURSOR} "18bcfe56800-0.{"0" * 16}"'),
    ("PAGE", ["/x", 1, "." * 17], f"RANGE {NOT_A_CURSOR}"),
    ("RECENT", [1, "x"], f'RANGE {NOT_A_CURSOR} "x"'),
    ("USERS", ["", 1, "x"], f'RANGE {NOT_A_CURSOR} "x"'),
]


def state(index):
    """All that a hit could change, the count of refused ones aside."""
    statistics = index.statistics()._asdict()
    del statistics["refused"], statistics["memory_bytes"]
    return statistics, index.recent(1000, now_ms=NOW), index.kinds(now_ms=NOW)


@pytest.mark.parametrize(("verb", "args", "message"), BAD_INPUT, ids=range(len(BAD_INPUT)))
def test_bad_input_gets_an_error_and_changes_nothing(dialect, verb, args, message):
    write, read = dialect
    wiring = Wiring()
    wiring.index.hit(b"a", b"/x", now_ms=NOW)
    before = state(wiring.index)
    connection = wiring.connect()
    error = read(feed(connection, write(verb, args)))
    assert isinstance(error, RespError)
    assert error.startswith(message)
    assert error.isprintable()
    assert error.isascii()
    assert len(error) < 64 * 4 + 200
    assert error.split()[0] in CODES - {"PROTO"}
    assert state(wiring.index) == before
    assert as_bytes(read(feed(connection, write("PING", [])))) == b"PONG"


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [case for case in BAD_INPUT if case[0] in ("HIT", "LEAVE") and not case[2].startswith("ERR")],
)
def test_a_refused_hit_is_counted(dialect, verb, args, message):
    write, _ = dialect
    wiring = Wiring()
    feed(wiring.connect(), write(verb, args))
    assert wiring.index.statistics().refused == 1


@pytest.mark.parametrize("value", [1.5, True, [], [[]], {}, {"a": "b"}, msgpack.ExtType(1, b"x")])
@pytest.mark.parametrize(
    ("method", "place", "params"),
    [
        ("HIT", 0, ["a", "/x", NOW, "guest"]),
        ("HIT", 1, ["a", "/x", NOW, "guest"]),
        ("HIT", 2, ["a", "/x", NOW, "guest"]),
        ("HIT", 3, ["a", "/x", NOW, "guest"]),
        ("LEAVE", 1, ["a", NOW]),
        ("COUNT", 0, ["/x"]),
        ("COUNT", 1, ["", 5]),
        ("COUNTS", 1, ["/x", "/x"]),
        ("PAGE", 1, ["/x", 5, ""]),
        ("PAGE", 2, ["/x", 5, ""]),
        ("SEEN", 1, ["a", "b", "c"]),
        ("PING", 0, ["a"]),
        ("ECHO", 0, ["a"]),
        ("CONFIG", 1, ["GET", "x"]),
    ],
)
def test_a_value_that_is_neither_text_nor_number_is_refused(method, place, params, value):
    wiring = Wiring()
    connection = wiring.connect()
    params = [*params[:place], value, *params[place + 1 :]]
    error = one_pack(feed(connection, request(method, *params)))
    assert error.startswith("RANGE ")
    assert error.endswith("takes text or a whole number, not a boolean, fraction, array or map")
    assert wiring.index.statistics().users == 0
    assert one_pack(feed(connection, request("PING"))) == "PONG"


@pytest.mark.parametrize(
    ("user", "url"),
    [
        (NASTY, NASTY * 3),
        (b"\0", b"\0"),
        (b"\r\n", b"\n"),
        (b'"', b"'"),
        (b" ", b"  "),
        (b"+OK\r\n", b"$-1\r\n"),
        (b"\xff" * 256, b"\xff" * 2048),
        ("é".encode() * 128, "\U0001f600".encode() * 512),
        (b"\xc0\xc1\x93\x94\xdc\xdd", b"*1\r\n"),
    ],
)
def test_names_go_in_and_out_as_they_are(dialect, user, url):
    write, read = dialect

    def said(verb, args):
        return read(feed(connection, write(verb, args)))

    connection = Wiring().connect()
    assert as_bytes(said("HIT", [user, url])) == b"OK"

    def raw(value):
        return value.encode() if isinstance(value, str) else value

    online, here, [[listed, seen_ms, _]], cursor = said("PAGE", [url])
    assert (online, here, raw(listed), seen_ms, cursor) == (1, 1, user, NOW, None)
    [[seen_on, _]] = said("SEEN", [user])
    assert raw(seen_on) == url
    [[[listed, listed_on, _, _]], _] = said("USERS", [user])
    assert (raw(listed), raw(listed_on)) == (user, url)


# Limits of the index, and of all sites


def test_a_full_site_refuses_what_would_be_too_much_and_goes_on(dialect):
    write, read = dialect
    wiring = Wiring()
    wiring.host.sites[b"small"] = Index(max_users=2, max_pages=1)
    connection = wiring.connect(b"small")

    def hit(user, url):
        return as_bytes(read(feed(connection, write("HIT", [user, url]))))

    assert hit("a", "/a") == hit("a", "/b") == hit("b", "/b") == b"OK"
    assert hit("c", "/b") == "FULL max_users is reached: 2; the hit was refused and nothing has changed"
    assert hit("b", "/c") == "FULL max_pages is reached: 1; the hit was refused and nothing has changed"
    assert read(feed(connection, write("COUNTS", ["/a", "/b", "/c"]))) == [0, 2, 0]
    assert connection.index.statistics().refused == 2


def test_hits_of_a_batch_at_a_limit_are_refused_one_by_one():
    wiring = Wiring()
    wiring.host.sites[b"small"] = Index(max_users=40)
    hits = [[f"u{number}", "/x"] for number in range(100)]
    assert one_pack(feed(wiring.connect(b"small"), request("hits", *hits))) == [
        *(40, 0, 60),
        ["FULL", "hit 41 of the batch: max_users is reached: 40; the hit was refused and nothing has changed"],
    ]


# Cursors


def test_foreign_old_and_altered_cursors(dialect):
    write, read = dialect
    wiring = Wiring()
    other = wiring.host.sites[b"other"] = Index()
    for number in range(9):
        for index in (wiring.index, other):
            index.hit(b"u%d" % number, b"/a", seen_ms=NOW - number, now_ms=NOW)
            index.hit(b"v%d" % number, b"/b", seen_ms=NOW - number, now_ms=NOW)
    connection, elsewhere = wiring.connect(), wiring.connect(b"other")

    def said(verb, args, to=connection, now_ms=NOW):
        return read(feed(to, write(verb, args), now_ms=now_ms))

    cursor = as_bytes(said("PAGE", ["/a", 1]))[3]
    by_name = as_bytes(said("USERS", ["u", 1]))[1]
    for verb, args, to in [
        ("PAGE", ["/b", 1, cursor], connection),
        ("PAGE", ["/a", 1, cursor], elsewhere),
        ("PAGE", ["/a", 1, by_name], connection),
        ("RECENT", [1, cursor], connection),
        ("USERS", ["u", 1, cursor], connection),
        ("USERS", ["v", 1, by_name], connection),
        ("USERS", ["", 1, by_name], connection),
        ("USERS", ["u", 1, by_name], elsewhere),
    ]:
        error = said(verb, args, to)
        assert error.startswith(f"RANGE {NOT_A_CURSOR}")
    for altered in [cursor[:-1], cursor + b"0", cursor.upper(), b"1" + cursor, cursor.replace(b"-", b"-1"), cursor[1:]]:
        assert said("PAGE", ["/a", 1, altered]).startswith("RANGE cursor")
    for at in range(len(cursor)):
        altered = bytearray(cursor)
        altered[at] ^= 1
        assert said("PAGE", ["/a", 1, bytes(altered)]).startswith("RANGE cursor")
    assert len(said("PAGE", ["/a", 100, cursor])[2]) == 8
    assert said("PAGE", ["/a", 100, cursor], now_ms=NOW + 3_600_000) == [0, 0, [], None]
    wiring.index.hit(b"new", b"/a", now_ms=NOW + 3_600_000)
    assert said("PAGE", ["/a", 100, cursor], now_ms=NOW + 3_600_000) == [1, 1, [], None]


# Framing. The connection gets an error and is closed; what was announced is not allocated.

GIGABYTE = 2**30

BROKEN_RESP = {
    "1 GB of text": (b"*1\r\n$1073741824\r\n", "an argument has 1073741824 bytes, a command has at most 1048576"),
    "1 GB of arguments": (b"*1073741824\r\n", "a command has 1073741824 arguments, 0 to 65536 are taken"),
    "one argument too many": (b"*65537\r\n", "a command has 65537 arguments, 0 to 65536 are taken"),
    "a negative length": (b"*1\r\n$-2\r\n", "an argument has -2 bytes"),
    "a number beyond 64 bits": (b"*99999999999999999999\r\n", "a length in RESP is a number and CR LF"),
    "a length beyond 64 bits": (b"*1\r\n$9223372036854775808\r\n", "a length in RESP is a number and CR LF"),
    "the longest length": (b"*1\r\n$9223372036854775807\r\n", "an argument has 9223372036854775807 bytes"),
    "an endless number": (b"*" + b"1" * 40, 'a length in RESP ends with CR LF, not "*1111'),
    "no number": (b"*x\r\n", r'a length in RESP is a number and CR LF, not "*x\r\n"'),
    "an empty number": (b"*\r\n", r'a length in RESP is a number and CR LF, not "*\r\n"'),
    "no digits at all": (b"*\n", r'a length in RESP is a number and CR LF, not "*\n"'),
    "a plus sign": (b"*+1\r\n", "a length in RESP is a number and CR LF"),
    "no carriage return": (b"*1\n", r'a length in RESP is a number and CR LF, not "*1\n"'),
    "an array inside": (b"*1\r\n*1\r\n", 'an argument in RESP begins with $, not "*"'),
    "1,000 arrays inside": (b"*1\r\n" * 1000, 'an argument in RESP begins with $, not "*"'),
    "an integer inside": (b"*1\r\n:1\r\n", 'an argument in RESP begins with $, not ":"'),
    "MessagePack inside": (b"*1\r\n\x94", r'an argument in RESP begins with $, not "\x94"'),
    "text longer than said": (b"*1\r\n$4\r\nPINGS\r\n", r'an argument of 4 bytes is followed by CR LF, not "S\r"'),
    "text shorter than said": (b"*1\r\n$5\r\nPING\r\n*", r'an argument of 5 bytes is followed by CR LF, not "\n*"'),
    "only a line feed": (b"*1\r\n$4\r\nPING\n\n", r'an argument of 4 bytes is followed by CR LF, not "\n\n"'),
    "unbalanced quotes": (b'PING "\r\n', r'unbalanced quotes: "PING \"\r"'),
}

#: These are wrong only once more of them has come.
BROKEN_WHEN_WHOLE = {"an endless number"}

TOO_LONG = "a message has more than 1048576 bytes, with a value of"

BROKEN_PACK = {
    "1 GB of text": (b"\x94\x00\x01\xa4ECHO\x91\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB of bytes": (b"\x94\x00\x01\xa4ECHO\x91\xc6\x40\x00\x00\x00", TOO_LONG),
    "4 GB of text": (b"\x94\x00\x01\xa4ECHO\x91\xdb\xff\xff\xff\xff", TOO_LONG),
    "4 GB of an extension": (b"\x94\x00\x01\xa4ECHO\x91\xc9\xff\xff\xff\xff", TOO_LONG),
    "1 GB in a hit": (head_of_batch(1) + b"\x92\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB instead of a hit": (head_of_batch(1) + b"\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB in a map in a batch": (head_of_batch(1) + b"\x81\xa1a\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB of method": (b"\x94\x00\x01\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB of msgid": (b"\x94\x00\xdb\x40\x00\x00\x00", TOO_LONG),
    "1 GB of params": (b"\x94\x00\x01\xa4ECHO\xdd\x40\x00\x00\x00", "an array has 1073741824 items, at most 65536"),
    "1 GB of hits": (head_of_batch(GIGABYTE), "an array has 1073741824 items, at most 65536"),
    "4 GB of hits": (head_of_batch(2**32 - 1), "an array has 4294967295 items, at most 65536"),
    "a hit too many": (head_of_batch(65_537), "an array has 65537 items, at most 65536"),
    "1 GB of items": (b"\x94\x00\x01\xa4ECHO\x91\xdd\x40\x00\x00\x00", "an array has 1073741824 items, at most 65536"),
    "1 GB of pairs": (b"\x94\x00\x01\xa4ECHO\x91\xdf\x40\x00\x00\x00", "an array has 1073741824 items, at most 65536"),
    "1 GB of items in a batch": (head_of_batch(1) + b"\xdd\x40\x00\x00\x00", "an array has 1073741824 items"),
    "1 GB of message": (b"\xdd\x40\x00\x00\x00", "an array has 1073741824 items"),
    "1,000 arrays inside": (b"\x94\x00\x01\xa4ECHO" + b"\x91" * 1000, "arrays are nested more than 4 deep"),
    "1,000 arrays in a batch": (head_of_batch(1) + b"\x91" * 1000, "arrays are nested more than 4 deep"),
    "1,000 arrays in a hit": (head_of_batch(1) + b"\x92\xa1a" + b"\x91" * 1000, "arrays are nested more than 4 deep"),
    "1,000 maps inside": (b"\x94\x00\x01\xa4ECHO\x91" + b"\x81" * 1000, "arrays are nested more than 4 deep"),
    "1,000 arrays of a message": (b"\x94" * 1000, "a message begins with 0"),
    "a head that is no value": (b"\x94\xc1", "0xc1 begins no MessagePack value"),
    "an argument that is no value": (b"\x94\x00\x01\xa4ECHO\x91\xc1", "0xc1 begins no MessagePack value"),
    "an item that is no value": (head_of_batch(2) + b"\xc1", "0xc1 begins no MessagePack value"),
    "a message of 2": (b"\xdc\x00\x02\x00", "a message is an array"),
    "a message of 5": (b"\xdd\x00\x00\x00\x05\x00", "a message is an array"),
    "a response": (b"\x94\x01\x00\xc0\xc0", "a message begins with 0"),
    "a request of 3": (b"\x93\x00\x00\xa4PING", "a message begins with 0"),
    "a notification of 4": (b"\x94\x02\xa4PING\x90\x90", "a message begins with 0"),
    "a huge type": (b"\x94\xcf" + b"\xff" * 8, "a message begins with 0"),
    "text as type": (b"\x94\xa10\x01\xa4PING\x90", "a message begins with 0"),
    "text as msgid": (b"\x94\x00\xa11\xa4PING\x90", "a msgid is a whole number"),
    "nil as msgid": (b"\x94\x00\xc0\xa4PING\x90", "a msgid is a whole number"),
    "an array as msgid": (b"\x94\x00\x91\x00\xa4PING\x90", "a msgid is a whole number"),
    "a number as method": (b"\x94\x00\x01\x05\x90", "a method is text"),
    "nil as method": (b"\x94\x00\x01\xc0\x90", "a method is text"),
    "a very long method": (b"\x94\x00\x01\xd9\xc8" + b"x" * 200, "the head of a message has a value of 202 bytes"),
    "nil as params": (b"\x94\x00\x01\xa4PING\xc0", "params are an array"),
    "a map as params": (b"\x94\x00\x01\xa4PING\x81\xa1a\xa1b", "params are an array"),
    "text as params": (b"\x93\x02\xa4PING\xa1a", "params are an array"),
    "a second message that is RESP": (request("PING") + resp("PING"), "a message is an array"),
}


def check_broken(wiring, data, message, read_all, *, piece):
    """Feed broken bytes to a connection, with another one beside it that is in the middle of a message."""
    neighbour = wiring.connect()
    question = resp("COUNT", "/x")
    assert feed(neighbour, question[:-3]) == b""
    connection = wiring.connect()
    output = feed(connection, data, piece=piece)
    assert connection.is_closing
    assert not connection.has_work
    *_, error = read_all(output)
    assert error.startswith(f"PROTO {message}")
    assert error.isprintable()
    assert error.isascii()
    assert connection.buffered_bytes < 64 * 1024
    assert feed(connection, resp("PING")) == b""
    assert feed(neighbour, question[-3:]) == b":1\r\n"
    del connection, neighbour
    assert wiring.held() == (0, 0)


def wiring_with_a_hit():
    wiring = Wiring()
    wiring.index.hit(b"a", b"/x", now_ms=NOW)
    return wiring


@pytest.mark.parametrize("piece", [None, 1])
@pytest.mark.parametrize("name", BROKEN_RESP)
def test_broken_resp_is_answered_and_closed(name, piece):
    data, message = BROKEN_RESP[name]
    check_broken(wiring_with_a_hit(), data, message, read_resp, piece=piece)


@pytest.mark.parametrize("piece", [None, 1])
@pytest.mark.parametrize("name", BROKEN_PACK)
def test_broken_messagepack_is_answered_and_closed(name, piece):
    data, message = BROKEN_PACK[name]

    def read_all(output):
        return [error for _, error, _ in read_pack(output)]

    check_broken(wiring_with_a_hit(), data, message, read_all, piece=piece)


def test_the_error_of_a_broken_message_has_its_msgid_as_soon_as_that_is_known():
    for data, msgid in [
        (b"\x94\x07", None),
        (b"\x93\x02\xc0", None),
        (b"\x94\x00\x07\xc0", 7),
        (b"\x94\x00\xcd\x12\x34\xa4PING\xc0", 0x1234),
        (head_of_batch(70_000, msgid=2**64 - 1), 2**64 - 1),
        (head_of_batch(1, msgid=-5) + b"\xc1", -5),
        (request("PING", msgid=9) + b"\xc0", None),
    ]:
        assert read_pack(feed(Wiring().connect(), data))[-1][0] == msgid


def test_what_was_answered_before_broken_framing_goes_out_first():
    assert read_resp(feed(Wiring().connect(), resp("PING") + b"PING 2\r\n*x\r\n" + resp("PING"))) == [
        "PONG",
        b"2",
        RespError(r'PROTO a length in RESP is a number and CR LF, not "*x\r\n"'),
    ]


# Truncated messages


@pytest.mark.parametrize(
    "message",
    [
        resp("HIT", "a", "/x", NOW, "guest"),
        resp("USERS", None, 5),
        b'HIT a "/x y"\r\n',
        request("HIT", "a", "/x", NOW, "guest"),
        request("USERS", None, 5, msgid=2**40),
        request("ECHO", b"\xff" * 300),
        request("SEEN", *["a"] * 20),
        request("ECHO", [1, {"a": 2}, []]),
        notification("HIT", "a", "/x"),
        request("hits", ["a", "/x", NOW, "guest"], ["b", "/y"]),
        request("hits", [["odd"], {}], 5),
    ],
)
def test_a_truncated_message_waits_for_its_rest(message):
    for cut in range(1, len(message)):
        connection = Wiring().connect()
        assert feed(connection, message[:cut]) == b""
        assert (connection.in_frame, connection.has_work, connection.frames) == (True, False, 0)
        assert not connection.is_closing
        feed(connection, message[cut:])
        assert (connection.in_frame, connection.frames) == (False, 1)


def test_a_connection_that_says_nothing():
    connection = Wiring().connect()
    connection.receive(b"", now_ms=NOW)
    connection.proceed(now_ms=NOW)
    assert (connection.in_frame, connection.has_work, connection.buffered_bytes) == (False, False, 0)
    assert connection.take_output() == b""


# Sizes, each at its limit and one beyond


def sized(write, size):
    """An ECHO that is `size` bytes long altogether, of some hundred or more."""
    n_bytes = size
    while len(message := write("ECHO", [b"\xff" * n_bytes])) != size:
        n_bytes -= 1
    return message


@pytest.mark.parametrize("piece", [None, 1000])
@pytest.mark.parametrize("size", [100_000, 2**20])
def test_a_frame_of_max_frame_is_taken_and_no_longer_one(dialect, size, piece):
    write, read = dialect
    connection = Wiring(max_frame=size).connect()
    message = sized(write, size)
    assert len(read(feed(connection, message, piece=piece))) > size - 100
    error = read(feed(connection, sized(write, size + 1), piece=piece))
    assert error.startswith("PROTO ")
    assert str(size) in error
    assert connection.is_closing


def test_a_batch_may_be_as_long_as_a_frame_and_no_longer():
    item = msgpack.packb(["a" * 50, "/x"])
    head = head_of_batch(2000)
    size = len(head) + 2000 * len(item)
    for max_frame, taken in ((size, 2000), (size - 1, 1999)):
        for piece in (None, 777):
            wiring = Wiring(max_frame=max_frame)
            output = feed(wiring.connect(), head + item * 2000, piece=piece)
            assert wiring.index.statistics().accepted == taken
            if taken == 2000:
                assert one_pack(output) == [2000, 0, 0, None]
            else:
                assert one_pack(output).startswith(f"PROTO a message has more than {max_frame} bytes")


def test_a_line_may_have_64_kib():
    connection = Wiring().connect()
    line = b"ECHO " + b"x" * (65_536 - 5)
    assert one_resp(feed(connection, line + b"\n")) == b"x" * 65_531
    assert one_resp(feed(connection, line + b"x\n")).startswith("PROTO a line has 65537 bytes, at most 65536")
    connection = Wiring().connect()
    assert feed(connection, line, piece=100) == b""
    assert one_resp(feed(connection, b"xx")).startswith("PROTO a line has more than 65536 bytes")


def test_max_items_and_max_depth_can_be_set():
    for items, message in ((5, "PONG"), (6, "PROTO an array has 6 items, at most 5 are taken")):
        assert one_pack(feed(Wiring(max_items=5).connect(), request("PING", *[1] * items))).startswith(
            message if items > 5 else "ERR wrong number of arguments for PING: 5"
        )
    assert one_resp(feed(Wiring(max_items=2).connect(), resp("PING", "a"))) == b"a"
    assert one_resp(feed(Wiring(max_items=2).connect(), resp("PING", "a", "b"))).startswith("PROTO a command has 3")
    assert one_resp(feed(Wiring(max_items=2).connect(), b"PING a b\r\n")).startswith("PROTO a command has 3")
    for max_depth in (4, 10, 64):
        nested = []
        for _ in range(max_depth - 3):
            nested = [nested]
        assert one_pack(feed(Wiring(max_depth=max_depth).connect(), request("ECHO", nested))).startswith("RANGE")
        error = one_pack(feed(Wiring(max_depth=max_depth).connect(), request("ECHO", [nested])))
        assert error == f"PROTO arrays are nested more than {max_depth} deep"
    with pytest.raises(ValueError, match="max_depth takes 3 to 64, not 65"):
        Wiring(max_depth=65)


def test_as_many_items_as_max_items_are_taken(dialect):
    """Their number is judged by the verb: far more names than an answer may have."""
    write, read = dialect
    connection = Wiring().connect()
    n_names = 65_536 - (write is DIALECTS["resp"][0])
    names = ["x"] * n_names
    assert read(feed(connection, write("SEEN", names))) == (f"RANGE {n_names} users in one question, max_limit is 1000")
    assert read(feed(connection, write("CONFIG", names))) is None
    assert not connection.is_closing


# Before a token


#: Verbs that can be used to get a token accepted, or to end.
BEFORE_AUTH = [("AUTH", ["secret"]), ("AUTH", ["site", "secret"]), ("HELLO", ["3"]), ("QUIT", []), ("RESET", [])]


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("HIT", ["a", "/x"]),
        ("HIT", []),
        ("LEAVE", ["a"]),
        ("COUNT", []),
        ("PING", []),
        ("ECHO", ["x"]),
        ("INFO", []),
        ("SITE", ["x"]),
        ("CLIENT", ["ID"]),
        ("hits", []),
        ("hits", [["a", "/x"]]),
        ("NOSUCHVERB", []),
        ("", []),
    ],
)
def test_before_a_token_nothing_is_answered(dialect, verb, args):
    write, read = dialect
    if args and isinstance(args[0], list) and write is DIALECTS["resp"][0]:
        args = args[0]
    wiring = Wiring(auth_wanted=True)
    connection = wiring.connect()
    assert read(feed(connection, write(verb, args))) == f'NOAUTH "{verb}" needs a token first: AUTH [site] token'
    assert wiring.host.calls == []
    assert wiring.index.statistics().users == 0
    assert as_bytes(read(feed(connection, write("AUTH", ["secret"])))) == b"OK"
    assert as_bytes(read(feed(connection, write("PING", [])))) == b"PONG"


@pytest.mark.parametrize(("verb", "args"), BEFORE_AUTH)
def test_before_a_token_these_are_answered(dialect, verb, args):
    write, read = dialect
    connection = Wiring(auth_wanted=True).connect()
    assert as_bytes(read(feed(connection, write(verb, args)))) == b"OK"


def test_a_wrong_token_changes_nothing(dialect):
    write, read = dialect
    connection = Wiring(auth_wanted=True).connect()
    assert read(feed(connection, write("AUTH", ["guess"]))) == "WRONGPASS the token is wrong"
    assert read(feed(connection, write("COUNT", []))).startswith("NOAUTH")


def test_a_notification_before_a_token_does_nothing():
    wiring = Wiring(auth_wanted=True)
    assert feed(wiring.connect(), notification("hits", ["a", "/x"]) + notification("HIT", "a", "/x")) == b""
    assert wiring.index.statistics().users == 0
    assert wiring.service.errors == 2


@pytest.mark.parametrize("piece", [None, 100])
def test_before_a_token_messages_are_short(dialect, piece):
    write, read = dialect
    wiring = Wiring(auth_wanted=True)
    connection = wiring.connect()
    assert read(feed(connection, sized(write, 4096), piece=piece)).startswith("NOAUTH")
    error = read(feed(connection, sized(write, 4097), piece=piece))
    assert error.startswith("PROTO ")
    assert "4096" in error
    assert connection.is_closing
    assert wiring.service.buffered_bytes < 16 * 1024


def test_a_token_lifts_the_limit_for_what_comes_right_behind_it(dialect):
    write, read = dialect
    connection = Wiring(auth_wanted=True).connect()
    output = feed(connection, write("AUTH", ["secret"]) + sized(write, 100_000))
    assert len(output) > 99_000
    feed(connection, write("RESET", []))
    assert read(feed(connection, sized(write, 5000))).startswith("PROTO ")


def test_before_a_token_a_batch_is_as_short_as_any_message():
    wiring = Wiring(auth_wanted=True)
    message = request("hits", *[["a", "/x"]] * 2000)
    assert one_pack(feed(wiring.connect(), message)).startswith("PROTO a message has more than 4096 bytes")
    assert wiring.index.statistics().users == 0


# HTTP


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\nHost: localhost:8989\r\n\r\n",
        b"get /\r\n",
        b"POST /HIT HTTP/1.1\r\nContent-Length: 17\r\n\r\nHIT evil /page\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"PUT /x HTTP/1.1\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"CONNECT localhost:8989 HTTP/1.1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\n\r\n",
        b"PATCH / HTTP/1.1\r\n\r\n",
        b"Host: localhost\r\nHIT evil /page\r\n",
        b"Host:localhost\r\nHIT evil /page\r\n",
        b"host: localhost\nHIT evil /page\r\n",
        b"GET\n",
        b' "GET" / HTTP/1.1\r\n',
    ],
)
@pytest.mark.parametrize("piece", [None, 1])
def test_http_gets_a_line_of_http_and_is_closed(text, piece):
    wiring = Wiring()
    connection = wiring.connect()
    output = feed(connection, text + resp("HIT", "evil", "/page"), piece=piece)
    assert output == b"HTTP/1.1 400 This port speaks RESP and MessagePack, not HTTP\r\n\r\n"
    assert connection.is_closing
    assert not connection.has_work
    assert wiring.index.statistics().users == 0


def test_a_web_page_cannot_speak_behind_an_unknown_method():
    """A header that comes first would be one a page may choose; Host: always comes before the body."""
    wiring = Wiring()
    connection = wiring.connect()
    feed(connection, b"FOO / HTTP/1.1\r\nAccept: */*\r\nHost: localhost:8989\r\n\r\nHIT evil /page\r\n")
    assert connection.is_closing
    assert wiring.index.statistics().users == 0


@pytest.mark.parametrize("text", [b"GETTING\n", b"POSTS a\n", b"Hosts: a\n", b"ECHO GET\n", b"ECHO Host:\n"])
def test_words_that_only_look_like_http_are_no_http(text):
    connection = Wiring().connect()
    assert not feed(connection, text).startswith(b"HTTP")
    assert not connection.is_closing


def test_http_words_as_resp_commands_are_unknown_verbs():
    connection = Wiring().connect()
    assert ask(connection, "GET", "/").startswith('ERR unknown verb "GET"')
    assert ask(connection, "PING") == b"PONG"


# The dialect is told by the first byte


@pytest.mark.parametrize("first", [byte for byte in range(256) if byte not in (0x93, 0x94, 0xDC, 0xDD)])
def test_any_other_first_byte_begins_resp(first):
    connection = Wiring().connect()
    output = feed(connection, bytes([first]) + b"\r\n\r\n" * 20)
    assert all(isinstance(reply, RespError) for reply in read_resp(output))
    assert connection.resp_version == 2


@pytest.mark.parametrize("head", [b"\x94", b"\xdc\x00\x04", b"\xdd\x00\x00\x00\x04"])
def test_a_first_byte_of_an_array_begins_messagepack(head):
    connection = Wiring().connect()
    assert one_pack(feed(connection, head + b"\x00\x05\xa4PING\x90")) == "PONG"
    assert connection.resp_version == 0


def test_an_error_before_the_first_byte_is_resp():
    connection = Wiring().connect()
    connection.fail(OnlineError("max number of clients reached"))
    assert connection.take_output() == b"-ERR max number of clients reached\r\n"


def test_nothing_is_allocated_for_what_is_announced():
    wiring = Wiring(max_frame=2**30)
    connections = [wiring.connect() for _ in range(20)]
    for connection in connections[:10]:
        feed(connection, b"*2\r\n$4\r\nECHO\r\n$1000000000\r\nabc")
        assert connection.in_frame
    for connection in connections[10:]:
        feed(connection, b"\x94\x00\x01\xa4ECHO\x91\xdb" + struct.pack(">I", 10**9) + b"abc")
        assert connection.in_frame
    assert wiring.service.buffered_bytes < 20 * 1024


def test_only_the_first_line_of_a_connection_can_be_http():
    connection = Wiring().connect()
    replies = read_resp(feed(connection, b"PING\r\nGET / HTTP/1.1\r\nHost: x\r\nPING\r\n"))
    assert replies[0] == replies[3] == "PONG"
    assert [str(reply).split(";")[0][:18] for reply in replies[1:3]] == ['ERR unknown verb "', 'ERR unknown verb "']
    assert not connection.is_closing


@pytest.mark.parametrize(
    "line", [b"HIT /page HTTP/1.1", b"hit theo /page http/1.0", b"COUNT /page HTTP/2", b"LEAVE /theo HTTP/1.1"]
)
def test_a_line_that_ends_as_one_of_http_is_http_whatever_its_verb(line):
    wiring = Wiring()
    connection = wiring.connect()
    assert feed(connection, line + b"\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert connection.is_closing
    assert wiring.index.statistics().users == 0
