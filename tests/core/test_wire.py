"""The hot verbs on the wire, in both dialects: each message whole, a byte at a time, and with trailing bytes.

What a verb means is the matter of test_rules.py; here, that what is asked arrives and what is answered goes out.
Bad input stands in test_wire_limits.py, what only one dialect has in test_wire_resp.py and test_wire_msgpack.py.
"""

import msgpack
import pytest
from tests.wiring import (
    DIALECTS,
    NOW,
    RespError,
    Wiring,
    as_bytes,
    feed,
    notification,
    one_pack,
    read_pack,
    read_resp,
    request,
    resp,
)

from online.core.index import Index
from online.core.wire import Connection
from online.errors import FullError, full

#: Older than the window of 30 minutes.
LONG_AGO = NOW - 3_600_000


def populate(index):
    for user, url, ago_ms, kind in [
        (b"anna", b"/a", 5_000, "member"),
        (b"bert", b"/a", 4_000, "guest"),
        (b"cleo", b"/a", 3_000, "hidden"),
        (b"d\xff", b"/a", 2_000, "member"),
        (b"e b", b'/b "\r\n\0', 1_000, "member"),
        (b"bot", b"/a", 500, "bot"),
    ]:
        index.hit(user, url, seen_ms=NOW - ago_ms, kind=kind, now_ms=NOW)
    index.leave(b"fred", now_ms=NOW)


def populated(**limits):
    """A wiring with a few people on its site."""
    wiring = Wiring(**limits)
    populate(wiring.index)
    return wiring


_index = Index(seed=bytes(16))
populate(_index)
PAGE_CURSOR = _index.page(b"/a", 1, now_ms=NOW)[3].encode()
RECENT_CURSOR = _index.recent(1, now_ms=NOW)[1].encode()
USERS_CURSOR = _index.users(b"", 2, now_ms=NOW)[1].encode()

ANNA = [b"anna", b"/a", NOW - 5_000, b"member"]
BERT = [b"bert", b"/a", NOW - 4_000, b"guest"]
DORA = [b"d\xff", b"/a", NOW - 2_000, b"member"]
EBBA = [b"e b", b'/b "\r\n\0', NOW - 1_000, b"member"]


def on_page(*sessions):
    return [[user, seen_ms, kind] for user, _, seen_ms, kind in sessions]


#: (verb, its arguments, the reply with all text as bytes); none of them changes what the others see.
QUESTIONS = [
    ("COUNT", [], 5),
    ("COUNT", [""], 5),
    ("COUNT", [None, None], 5),
    ("COUNT", ["/a"], 4),
    ("COUNT", ["/nowhere"], 0),
    ("COUNT", ["", 3], 2),
    ("COUNT", [None, "1800"], 5),
    ("COUNT", [b'/b "\r\n\0'], 1),
    ("COUNTS", ["/a", "/nowhere", b'/b "\r\n\0', "/a"], [4, 0, 1, 4]),
    ("KINDS", [], [3, 1, 1, 1]),
    ("KINDS", [""], [3, 1, 1, 1]),
    ("KINDS", ["/a"], [2, 1, 1, 1]),
    ("KINDS", ["/nowhere"], [0, 0, 0, 0]),
    ("PAGE", ["/a"], [5, 4, on_page(DORA, BERT, ANNA), None]),
    ("PAGE", ["/a", None, None], [5, 4, on_page(DORA, BERT, ANNA), None]),
    ("PAGE", ["/a", "", ""], [5, 4, on_page(DORA, BERT, ANNA), None]),
    ("PAGE", ["/a", 0], [5, 4, [], None]),
    ("PAGE", ["/a", "1"], [5, 4, on_page(DORA), PAGE_CURSOR]),
    ("PAGE", ["/a", 1000, PAGE_CURSOR], [5, 4, on_page(BERT, ANNA), None]),
    ("PAGE", ["/nowhere", 5], [5, 0, [], None]),
    ("RECENT", [], [[EBBA, DORA, BERT, ANNA], None]),
    ("RECENT", [1], [[EBBA], RECENT_CURSOR]),
    ("RECENT", [None, RECENT_CURSOR], [[DORA, BERT, ANNA], None]),
    ("RECENT", [0], [[], None]),
    ("USERS", [], [[ANNA, BERT, DORA, EBBA], None]),
    ("USERS", ["", 2], [[ANNA, BERT], USERS_CURSOR]),
    ("USERS", [None, None, USERS_CURSOR], [[DORA, EBBA], None]),
    ("USERS", ["an"], [[ANNA], None]),
    ("USERS", [b"d\xff"], [[DORA], None]),
    ("SEEN", ["anna"], [[b"/a", NOW - 5_000]]),
    ("SEEN", ["nobody", "e b", "cleo", "bot", "fred"], [None, EBBA[1:3], None, None, None]),
    ("SECTION", ["/"], [5, 2]),
    ("SECTION", [""], [5, 2]),
    ("SECTION", ["/b"], [1, 1]),
    ("SECTION", ["/c"], [0, 0]),
    ("PAGES", ["/"], [5, 2, [b"/a", EBBA[1]], None]),
    ("PAGES", ["/", 1], [5, 2, [b"/a"], b"/a"]),
    ("PAGES", ["/", 2], [5, 2, [b"/a", EBBA[1]], None]),
    ("PAGES", ["/", "", "/a"], [5, 2, [EBBA[1]], None]),
    ("PAGES", ["", 1, "/a"], [5, 2, [EBBA[1]], None]),
    ("PAGES", ["/a", 1, "/"], [4, 1, [b"/a"], None]),
    ("PAGES", ["/a", 1, "/aa"], [4, 1, [], None]),
    ("PAGES", ["/c", 1], [0, 0, [], None]),
    ("PING", [], b"PONG"),
    ("PING", ["hello"], b"hello"),
    ("ECHO", [b"\0\r\n\xff"], b"\0\r\n\xff"),
    ("ECHO", [""], b""),
    ("HIT", ["late", "/a", LONG_AGO], b"OK"),
    ("HIT", ["anna", "/z", NOW - 6_000, "guest"], b"OK"),
    ("HIT", ["anna", "/a", NOW - 5_000, ""], b"OK"),
    ("LEAVE", ["anna", NOW - 6_000], b"OK"),
    ("TIME", [], b"OK"),
]
IDS = [f"{verb}-{number}" for number, (verb, _, _) in enumerate(QUESTIONS)]


@pytest.mark.parametrize(("verb", "args", "reply"), QUESTIONS, ids=IDS)
def test_verb_whole_and_in_lower_case(dialect, verb, args, reply):
    write, read = dialect
    connection = populated().connect()
    for said in (verb, verb.lower(), verb.title()):
        assert as_bytes(read(feed(connection, write(said, args)))) == reply
    assert (connection.frames, connection.in_frame, connection.is_closing) == (3, False, False)


@pytest.mark.parametrize(("verb", "args", "reply"), QUESTIONS, ids=IDS)
def test_verb_a_byte_at_a_time(dialect, verb, args, reply):
    write, read = dialect
    connection = populated().connect()
    for byte in write(verb, args)[:-1]:
        assert feed(connection, bytes([byte])) == b""
        assert connection.in_frame
    assert as_bytes(read(feed(connection, write(verb, args)[-1:]))) == reply
    assert not connection.in_frame


@pytest.mark.parametrize(("verb", "args", "reply"), QUESTIONS, ids=IDS)
def test_verb_with_trailing_bytes(dialect, verb, args, reply):
    """What follows a message belongs to the next one, and is kept until that is complete."""
    write, read = dialect
    message = write(verb, args)
    for cut in range(1, len(message)):
        connection = populated().connect()
        assert as_bytes(read(feed(connection, message + message[:cut]))) == reply
        assert connection.in_frame
        assert as_bytes(read(feed(connection, message[cut:]))) == reply


def test_pipeline_split_at_every_position(dialect):
    write, _ = dialect
    pipeline = b"".join(write(verb, args) for verb, args, _ in QUESTIONS)
    whole = feed(populated().connect(), pipeline)
    wiring = populated()
    for cut in range(len(pipeline)):
        connection = wiring.connect()
        assert feed(connection, pipeline[:cut]) + feed(connection, pipeline[cut:]) == whole


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 333])
def test_pipeline_in_pieces(dialect, piece):
    write, _ = dialect
    pipeline = b"".join(write(verb, args) for verb, args, _ in QUESTIONS)
    assert feed(populated().connect(), pipeline, piece=piece) == feed(populated().connect(), pipeline)


def test_both_dialects_answer_the_same():
    in_resp, in_pack = populated().connect(), populated().connect()
    replies = read_resp(feed(in_resp, b"".join(resp(verb, *args) for verb, args, _ in QUESTIONS)))
    packed = read_pack(feed(in_pack, b"".join(request(verb, *args) for verb, args, _ in QUESTIONS)))
    assert as_bytes(replies) == as_bytes([result for _, _, result in packed])


def test_connections_of_one_service_do_not_mix():
    """They share the room for arguments: each finds its own again when the rest of its message comes."""
    wiring = populated()
    written = [
        b"".join(write(verb, args) for verb, args, _ in QUESTIONS) for write, _ in DIALECTS.values() for _ in range(2)
    ]
    alone = [feed(populated().connect(), pipeline) for pipeline in written]
    connections = [wiring.connect() for _ in written]
    outputs = [b""] * len(written)
    for at in range(max(map(len, written))):
        for number, connection in enumerate(connections):
            outputs[number] += feed(connection, written[number][at : at + 1])
    assert outputs == alone


def test_bytes_come_as_any_buffer():
    message = resp("PING")
    for given in (message, bytearray(message), memoryview(message), memoryview(b"xx" + message)[2:]):
        assert feed(Wiring().connect(), given) == b"+PONG\r\n"


# What verbs change


def test_hit_and_leave(dialect):
    write, read = dialect
    wiring = Wiring()
    connection = wiring.connect()
    assert as_bytes(read(feed(connection, write("HIT", ["theo", "/x"])))) == b"OK"
    assert as_bytes(read(feed(connection, write("HIT", ["anna", "/x", NOW - 9, "guest"])))) == b"OK"
    assert wiring.index.page(b"/x", now_ms=NOW)[2] == [(b"theo", NOW, "member"), (b"anna", NOW - 9, "guest")]
    assert as_bytes(read(feed(connection, write("LEAVE", ["theo"])))) == b"OK"
    assert wiring.index.count(now_ms=NOW) == 1
    assert wiring.index.statistics().accepted == 3


@pytest.mark.parametrize("kind", ["member", "guest", "hidden", "bot"])
def test_every_kind(dialect, kind):
    write, read = dialect
    wiring = Wiring()
    assert as_bytes(read(feed(wiring.connect(), write("HIT", ["theo", "/x", None, kind])))) == b"OK"
    assert wiring.index.kinds(now_ms=NOW) == [each == kind for each in ("member", "guest", "hidden", "bot")]


@pytest.mark.parametrize("nothing", [None, ""])
def test_nil_and_empty_text_stand_for_not_given(dialect, nothing):
    write, read = dialect
    wiring = Wiring()
    assert as_bytes(read(feed(wiring.connect(), write("HIT", ["theo", "/x", nothing, nothing])))) == b"OK"
    assert as_bytes(read(feed(wiring.connect(), write("LEAVE", ["anna", nothing])))) == b"OK"
    assert wiring.index.recent(now_ms=NOW)[0] == [(b"theo", b"/x", NOW, "member")]


def test_a_time_may_come_as_text_or_number(dialect):
    write, _ = dialect
    wiring = Wiring()
    feed(wiring.connect(), write("HIT", ["a", "/x", NOW - 1]) + write("HIT", ["b", "/x", str(NOW - 2)]))
    assert wiring.index.seen([b"a", b"b"], now_ms=NOW) == [(b"/x", NOW - 1), (b"/x", NOW - 2)]


def test_a_hit_from_the_future_happens_now(dialect):
    write, read = dialect
    wiring = Wiring()
    assert as_bytes(read(feed(wiring.connect(), write("HIT", ["a", "/x", NOW + 10_000])))) == b"OK"
    assert wiring.index.seen([b"a"], now_ms=NOW) == [(b"/x", NOW)]
    assert wiring.index.statistics().skewed == 1


def test_answers_are_exact_as_of_now(dialect):
    write, read = dialect
    connection = populated().connect()
    assert read(feed(connection, write("COUNT", []), now_ms=NOW)) == 5
    assert read(feed(connection, write("COUNT", []), now_ms=NOW + 1_797_000)) == 2
    assert read(feed(connection, write("COUNT", []), now_ms=NOW + 1_800_000)) == 0


def test_a_step_of_the_clock_is_applied_to_times_in_and_out(dialect):
    write, read = dialect
    wiring = Wiring()
    wiring.service.clock_step_ms = step_ms = 3_600_000
    connection = wiring.connect()
    feed(connection, write("HIT", ["a", "/x", NOW + step_ms - 7]) + write("HIT", ["b", "/x"]))
    feed(connection, write("LEAVE", ["c", NOW + step_ms - 8]))
    assert wiring.index.seen([b"a", b"b"], now_ms=NOW) == [(b"/x", NOW - 7), (b"/x", NOW)]
    seen = read(feed(connection, write("SEEN", ["a", "b"])))
    assert as_bytes(seen) == [[b"/x", NOW + step_ms - 7], [b"/x", NOW + step_ms]]
    _, _, users, _ = read(feed(connection, write("PAGE", ["/x"])))
    assert [seen_ms for _, seen_ms, _ in users] == [NOW + step_ms, NOW + step_ms - 7]
    assert wiring.index.statistics().accepted == 3


def test_lists_go_on_behind_their_cursors(dialect):
    write, read = dialect
    wiring = Wiring()
    for number in range(25):
        wiring.index.hit(b"u%02d" % number, b"/x", seen_ms=NOW - number, now_ms=NOW)
    connection = wiring.connect()
    for verb, args in (("PAGE", ["/x"]), ("RECENT", []), ("USERS", ["u"])):
        users, cursor = [], None
        while True:
            *_, listed, cursor = as_bytes(read(feed(connection, write(verb, [*args, 4, cursor]))))
            users += [session[0] for session in listed]
            if cursor is None:
                break
        assert users == [b"u%02d" % number for number in range(25)]


def test_the_default_limit_of_a_list_is_within_max_limit(dialect):
    write, read = dialect
    for max_limit, listed in ((7, 7), (1000, 30)):
        wiring = Wiring(max_limit=max_limit)
        for number in range(40):
            wiring.index.hit(b"u%d" % number, b"/x", now_ms=NOW)
        connection = wiring.connect()
        for verb, args in (("PAGE", ["/x"]), ("RECENT", []), ("USERS", [])):
            assert len(read(feed(connection, write(verb, args)))[-2]) == listed


def test_an_index_with_wider_limits_than_its_service_does_no_harm(dialect):
    """What a service keeps room for is its own limits."""
    write, read = dialect
    wiring = Wiring(max_limit=5, max_user=8)
    index = wiring.host.sites[b"wide"] = Index(max_user=16_384, max_limit=10_000)
    for number in range(20):
        index.hit(b"%016384d" % number, b"/x", now_ms=NOW)
    connection = wiring.connect(b"wide")
    assert read(feed(connection, write("USERS", ["", 6]))).startswith("RANGE limit takes 0 to 5, not 6")
    listed, cursor = as_bytes(read(feed(connection, write("USERS", ["", 5]))))
    assert [user for user, *_ in listed] == [b"%016384d" % number for number in range(5)]
    assert len(cursor) > 32_768
    listed, _ = as_bytes(read(feed(connection, write("USERS", ["", 5, cursor]))))
    assert listed[0][0] == b"%016384d" % 5


# Sites that do not exist yet


def test_a_site_that_does_not_exist_is_answered_as_empty(dialect):
    write, read = dialect
    wiring = Wiring()
    connection = wiring.connect(b"new")
    for verb, args, reply in [
        ("COUNT", [], 0),
        ("COUNT", ["", 60], 0),
        ("COUNTS", ["/a", "/b"], [0, 0]),
        ("KINDS", ["/a"], [0, 0, 0, 0]),
        ("PAGE", ["/a"], [0, 0, [], None]),
        ("RECENT", [], [[], None]),
        ("USERS", [], [[], None]),
        ("SEEN", ["a", "b"], [None, None]),
        ("SECTION", ["/"], [0, 0]),
    ]:
        assert as_bytes(read(feed(connection, write(verb, args)))) == reply
    assert list(wiring.host.sites) == [b"default"]


@pytest.mark.parametrize(
    ("args", "code"),
    [(["", "/x"], "RANGE"), (["a", ""], "RANGE"), (["a", "/x", 5], "RANGE"), (["a", "/x", "", "boss"], "RANGE")],
)
def test_a_bad_hit_does_not_open_a_site(dialect, args, code):
    write, read = dialect
    wiring = Wiring()
    connection = wiring.connect(b"new")
    assert read(feed(connection, write("HIT", args))).startswith(code)
    assert connection.index is None
    assert list(wiring.host.sites) == [b"default"]


@pytest.mark.parametrize(("verb", "args", "count"), [("HIT", ["a", "/x"], 1), ("LEAVE", ["a"], 0)])
def test_the_first_good_hit_opens_a_site(dialect, verb, args, count):
    write, read = dialect
    wiring = Wiring()
    connection = wiring.connect(b"new")
    assert as_bytes(read(feed(connection, write(verb, args)))) == b"OK"
    assert connection.index is wiring.host.sites[b"new"]
    assert read(feed(connection, write("COUNT", []))) == count
    assert connection.index.statistics().users == 1
    assert wiring.index.statistics().users == 0


def test_a_batch_opens_a_site():
    wiring = Wiring()
    connection = wiring.connect(b"new")
    assert one_pack(feed(connection, request("hits", ["", "/x"], ["a", "/x"], ["b", "/x"])))[:3] == [2, 0, 1]
    assert connection.index.count(now_ms=NOW) == 2


def test_a_site_that_cannot_be_opened(dialect):
    write, read = dialect
    wiring = Wiring()
    wiring.host.refusal = full("max_sites", 1)
    connection = wiring.connect(b"new")
    assert read(feed(connection, write("HIT", ["a", "/x"]))).startswith("FULL max_sites is reached: 1")
    assert connection.index is None
    assert read(feed(connection, write("COUNT", []))) == 0


def test_a_new_site_has_the_time_of_the_moment(dialect):
    """Also right behind a verb that leads from one site to another, long after the service began."""
    write, _ = dialect
    wiring = Wiring()
    connection = wiring.connect()
    feed(wiring.connect(b"other"), write("COUNT", []))
    later_ms = NOW + 600_000
    pipeline = write("COUNT", []) + write("SITE", ["new"]) + write("TIME", []) + write("HIT", ["a", "/x"])
    feed(connection, pipeline, now_ms=later_ms)
    assert wiring.host.calls[-1] == ("TIME", [], later_ms)
    assert connection.index.seen([b"a"], now_ms=later_ms) == [(b"/x", later_ms)]


# Verbs handed up


def test_rare_verbs_are_handed_up_in_turn(dialect):
    write, _ = dialect
    wiring = Wiring()
    wiring.host.answer = [1, [b"\xff", "text", None], -5, 2**40]
    connection = wiring.connect()
    output = feed(connection, write("PING", []) + write("config", ["get", 5, None, b"\xff"]) + write("PING", ["2"]))
    replies = read_resp(output) if output[:1] == b"+" else [result for _, _, result in read_pack(output)]
    assert as_bytes(replies) == [b"PONG", as_bytes(wiring.host.answer), b"2"]
    assert wiring.host.calls == [("CONFIG", [b"get", b"5", b"", b"\xff"], NOW)]


def test_a_fault_of_the_host_goes_up(dialect):
    write, _ = dialect
    wiring = Wiring()
    wiring.host.answer = object()
    with pytest.raises(TypeError, match="no dialect"):
        wiring.connect().receive(write("CONFIG", ["GET"]), now_ms=NOW)


def test_nothing_is_answered_after_quit(dialect):
    write, read = dialect
    connection = Wiring().connect()
    assert as_bytes(read(feed(connection, write("QUIT", []) + write("PING", [])))) == b"OK"
    assert connection.is_closing
    assert not connection.has_work
    assert feed(connection, write("PING", [])) == b""


def test_an_unasked_error_closes(dialect):
    write, read = dialect
    connection = Wiring().connect()
    feed(connection, write("PING", []))
    connection.fail(FullError("max_buffers is reached"))
    assert read(connection.take_output()) == "FULL max_buffers is reached"
    assert connection.is_closing


# CLIENT REPLY

#: (commands, those that are answered)
REPLY_MODES = [
    ("off 1 2 on 3", "on 3"),
    ("on 1", "on 1"),
    ("skip 1 2", "2"),
    ("skip skip 1 2", "2"),
    ("skip off 1 on 2", "on 2"),
    ("skip on 1", "on 1"),
    ("off skip 1 2 on 3", "on 3"),
    ("off off 1 on on", "on on"),
    ("skip bad 1", "1"),
    ("off bad on bad", "on bad"),
    ("off reset 1", "reset 1"),
    ("skip batch batch", "batch"),
    ("off batch on batch", "on batch"),
]


@pytest.mark.parametrize(("commands", "answered"), REPLY_MODES)
@pytest.mark.parametrize("piece", [None, 1])
def test_replies_are_left_out_as_redis_does(dialect, commands, answered, piece):
    write, _ = dialect

    def written(command):
        match command:
            case "on" | "off" | "skip":
                return write("CLIENT", ["REPLY", command])
            case "bad":
                return write("NOSUCHVERB", [])
            case "reset":
                return write("RESET", [])
            case "batch":
                return write("hits", [["a", "/x"]]) if write("PING", [])[0] == 0x94 else write("HIT", ["a", "/x"])
        return write("ECHO", [command])

    output = feed(Wiring().connect(), b"".join(map(written, commands.split())), piece=piece)
    alone = [feed(Wiring().connect(), written(command)) for command in answered.split()]
    assert output == b"".join(alone)


def test_off_is_left_by_on_alone():
    connection = Wiring().connect()
    modes = []
    for mode in ("skip", "off", "skip", "on"):
        connection.reply = mode
        modes.append(connection.reply)
    assert modes == ["skip", "off", "off", "on"]


# Notifications


@pytest.mark.parametrize(
    "message",
    [
        notification("HIT", "a", "/x"),
        notification("COUNT"),
        notification("HIT", "", "/x"),
        notification("NOSUCHVERB"),
        notification("CONFIG", "GET"),
        notification("hits", ["a", "/x"], ["", ""]),
        notification("hits"),
    ],
)
def test_a_notification_gets_no_response(message):
    connection = Wiring().connect()
    assert feed(connection, message * 3) == b""
    assert connection.frames == 3
    assert feed(connection, message + request("PING", msgid=7)) == msgpack.packb([1, 7, None, "PONG"])


# What a service counts


def test_a_service_counts_commands_and_errors(dialect):
    write, _ = dialect
    wiring = Wiring()
    feed(wiring.connect(), write("PING", []) + write("NOSUCHVERB", []) + write("HIT", ["", ""]))
    assert (wiring.service.commands, wiring.service.errors) == (3, 2)


def test_a_batch_is_one_command():
    wiring = Wiring()
    feed(wiring.connect(), request("hits", ["a", "/x"], ["", ""]))
    assert (wiring.service.commands, wiring.service.errors) == (1, 0)


def test_buffers_are_counted_and_given_back(dialect):
    write, _ = dialect
    wiring = Wiring()
    one, other = wiring.connect(), wiring.connect()
    one.receive(write("ECHO", ["x" * 5000])[:-1], now_ms=NOW)
    other.receive(write("ECHO", ["x" * 5000]), now_ms=NOW)
    assert one.buffered_bytes >= 5000
    assert other.buffered_bytes >= 5000
    assert wiring.service.buffered_bytes == one.buffered_bytes + other.buffered_bytes
    other.take_output()
    assert (other.buffered_bytes, other.output_bytes) == (0, 0)
    del one, other
    assert wiring.held() == (0, 0)


def test_a_connection_in_a_cycle_gives_its_buffers_back():
    """Exceptions make such cycles; the collector takes them apart in an order of its own."""
    wiring = Wiring()
    connection = wiring.connect()
    connection.receive(resp("ECHO", "x" * 5000)[:-1], now_ms=NOW)
    cycle = [connection]
    cycle.append(cycle)
    del connection, cycle
    assert wiring.held() == (0, 0)


def test_connections_have_numbers_of_their_own():
    wiring = Wiring()
    one, other = wiring.connect(), wiring.connect()
    assert one.id < other.id
    assert wiring.service.connections == 2


def test_reset_goes_back_to_the_beginning():
    wiring = Wiring(auth_wanted=True)
    connection = wiring.connect()
    feed(connection, resp("AUTH", "secret") + resp("HELLO", 3) + resp("SITE", "other") + resp("CLIENT", "REPLY", "off"))
    connection.name = b"me"
    connection.reset()
    assert (connection.authenticated, connection.resp_version, connection.reply) == (False, 2, "on")
    assert (connection.site, connection.index, connection.name) == (b"default", None, b"")


def test_a_connection_needs_a_service():
    with pytest.raises(TypeError):
        Connection(None, None)


def test_an_error_reads_the_same_in_both_dialects():
    said = [read(feed(Wiring().connect(), write("PAGE", ["/x", 5000]))) for write, read in DIALECTS.values()]
    assert said == [RespError("RANGE limit takes 0 to 1000, not 5000")] * 2
