"""RESP on the wire: both of its versions, nil and maps, and commands typed as a line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wiring import NOW, RespError, Wiring, as_bytes, ask, feed, one_resp, read_resp, resp

from online.core.wire import OK, Status

examples = settings(max_examples=300, deadline=None, derandomize=True, database=None)


# Versions


@pytest.mark.parametrize(("version", "nil"), [(2, b"$-1\r\n"), (3, b"_\r\n")])
def test_nil(version, nil):
    wiring = Wiring()
    connection = wiring.connect()
    connection.resp_version = version
    feed(connection, resp("HIT", "a", "/x"))
    assert feed(connection, resp("SEEN", "nobody")) == b"*1\r\n" + nil
    assert feed(connection, resp("PAGE", "/y")) == b"*4\r\n:1\r\n:0\r\n*0\r\n" + nil
    assert feed(connection, resp("RECENT", 0)) == b"*2\r\n*0\r\n" + nil
    assert feed(connection, resp("CONFIG", "GET")) == nil


@pytest.mark.parametrize(
    ("version", "written"),
    [(2, b"*4\r\n+OK\r\n:-5\r\n$1\r\nn\r\n*0\r\n"), (3, b"%2\r\n+OK\r\n:-5\r\n$1\r\nn\r\n%0\r\n")],
)
def test_maps(version, written):
    wiring = Wiring()
    wiring.host.answer = {OK: -5, "n": {}}
    connection = wiring.connect()
    connection.resp_version = version
    assert feed(connection, resp("CONFIG", "GET")) == written


def test_the_reply_to_hello_is_of_the_new_version():
    wiring = Wiring()
    wiring.host.answer = {}
    connection = wiring.connect()
    assert feed(connection, resp("CONFIG", "GET")) == b"*0\r\n"
    assert feed(connection, resp("HELLO", 3) + resp("CONFIG", "GET")) == b"+OK\r\n%0\r\n"
    assert feed(connection, resp("HELLO", 2) + resp("CONFIG", "GET")) == b"+OK\r\n*0\r\n"


@pytest.mark.parametrize("version", [2, 3])
def test_other_values_are_the_same_in_both_versions(version):
    wiring = Wiring()
    wiring.host.answer = [Status("FINE"), "text", b"\xff\r\n", "\udcff", 2**63 - 1, -(2**63), 0, [], [[1]], ("a",), ""]
    connection = wiring.connect()
    connection.resp_version = version
    assert feed(connection, resp("CONFIG", "GET")) == (
        b"*11\r\n+FINE\r\n$4\r\ntext\r\n$3\r\n\xff\r\n\r\n$1\r\n\xff\r\n"
        b":9223372036854775807\r\n:-9223372036854775808\r\n:0\r\n*0\r\n*1\r\n*1\r\n:1\r\n*1\r\n$1\r\na\r\n$0\r\n\r\n"
    )


def test_a_status_is_a_line():
    connection = Wiring().connect()
    assert feed(connection, resp("PING") + resp("HIT", "a", "/x") + resp("LEAVE", "a")) == b"+PONG\r\n+OK\r\n+OK\r\n"


def test_an_error_is_a_line_whatever_is_in_it():
    output = feed(Wiring().connect(), resp(b"\r\n+OK\r\n\xff\0"))
    assert output == rb'-ERR unknown verb "\r\n+OK\r\n\xff\x00"; COMMAND LIST shows all verbs' + b"\r\n"


# Commands


def test_an_empty_command_is_passed_over():
    connection = Wiring().connect()
    assert feed(connection, b"*0\r\n" * 3 + resp("PING") + b"\r\n\n \r\n" + resp("PING")) == b"+PONG\r\n" * 2
    assert connection.frames == 2


@pytest.mark.parametrize("piece", [None, 1])
@pytest.mark.parametrize("head", [b"*1\r\n", b"*2\r\n$4\r\nECHO\r\n"])
def test_a_command_has_no_nil_in_it(head, piece):
    connection = Wiring().connect()
    answer = feed(connection, head + b"$-1\r\n" + resp("PING"), piece=piece)
    assert answer == b"-PROTO an argument has -1 bytes, a command has at most 1048576\r\n"
    assert connection.is_closing


def test_lengths_may_have_leading_zeros():
    assert feed(Wiring().connect(), b"*0001\r\n$000000000000000004\r\nPING\r\n") == b"+PONG\r\n"


@pytest.mark.parametrize("size", [0, 1, 9, 10, 99, 100, 4095, 4096, 65_536, 300_000])
def test_text_of_every_size_in_and_out(size):
    text = bytes(range(256)) * (size // 256) + bytes(size % 256)
    connection = Wiring().connect()
    assert feed(connection, resp("ECHO", text)) == b"$%d\r\n%s\r\n" % (size, text)
    assert feed(connection, resp("ECHO", text), piece=1000) == b"$%d\r\n%s\r\n" % (size, text)


@examples
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"*1\r\n", b"$-1\r\n", b"\r\n"])), max_size=9
    ),
    st.sampled_from([None, 1, 2, 7]),
)
def test_arguments_arrive_as_they_were_sent(args, piece):
    wiring = Wiring()
    connection = wiring.connect()
    feed(connection, resp("CONFIG", "x", *args) + resp("PING"), piece=piece)
    assert wiring.host.calls == [("CONFIG", [b"x", *args], NOW)]


# Lines

LINES = [
    (b"PING", [b"PING"]),
    (b"  PING  ", [b"PING"]),
    (b"ECHO\ta\x0bb\x0cc", [b"ECHO", b"a", b"b", b"c"]),
    (b"HIT theo /forum/1?a=b&c=d", [b"HIT", b"theo", b"/forum/1?a=b&c=d"]),
    (b'ECHO "a b"', [b"ECHO", b"a b"]),
    (b'ECHO "" x', [b"ECHO", b"", b"x"]),
    (b"ECHO '' x", [b"ECHO", b"", b"x"]),
    (b"ECHO 'a \"b\" c'", [b"ECHO", b'a "b" c']),
    (b'ECHO "it\'s"', [b"ECHO", b"it's"]),
    (rb"ECHO 'it\'s'", [b"ECHO", b"it's"]),
    (rb"ECHO 'a\nb'", [b"ECHO", rb"a\nb"]),
    (rb'ECHO "\n\r\t\b\a\\\""', [b"ECHO", b'\n\r\t\b\a\\"']),
    (rb'ECHO "\x00\xff\x4a"', [b"ECHO", b"\x00\xff\x4a"]),
    (rb'ECHO "\xg1\q"', [b"ECHO", b"xg1q"]),
    (rb"ECHO a\nb", [b"ECHO", rb"a\nb"]),
    (b"ECHO \xff\xc3\xa9", [b"ECHO", b"\xff\xc3\xa9"]),
    (b'ECHO "\xff \xc3\xa9"', [b"ECHO", b"\xff \xc3\xa9"]),
    (b"ECHO a\0b", [b"ECHO", b"a\0b"]),
    (b"ECHO it's", [b"ECHO", b"it's"]),
    (b'"ECHO" "a"', [b"ECHO", b"a"]),
]


@pytest.mark.parametrize(("line", "words"), LINES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0\r\n", b" \r\n"])
@pytest.mark.parametrize("piece", [None, 1])
def test_a_line_is_split_into_words(line, words, end, piece):
    wiring = Wiring()
    feed(wiring.connect(), b"CONFIG " + line + end, piece=piece)
    assert wiring.host.calls == [("CONFIG", words, NOW)]


@pytest.mark.parametrize("line", [b'"', b'PING "', b"PING 'a", b'PING "a"b', rb'PING "a\"', b"'PING'x", rb"PING 'a\'"])
def test_unbalanced_quotes_close_the_connection(line):
    connection = Wiring().connect()
    assert one_resp(feed(connection, line + b"\r\n")).startswith("PROTO unbalanced quotes: ")
    assert connection.is_closing


def test_lines_and_arrays_may_alternate():
    pipeline = b"PING 1\r\n" + resp("PING", "2") + b"\r\n" + rb'PING "3 \n"' + b"\n" + resp("PING", "4")
    for piece in (None, 1, 2, 3):
        assert read_resp(feed(Wiring().connect(), pipeline, piece=piece)) == [b"1", b"2", b"3 \n", b"4"]


def quoted(word):
    return b'"' + b"".join(rb"\x%02x" % byte for byte in word) + b'"'


@examples
@given(st.lists(st.binary(max_size=20), max_size=9))
def test_any_words_can_be_written_in_a_line(words):
    wiring = Wiring()
    feed(wiring.connect(), b" ".join([b"CONFIG", b"x", *map(quoted, words)]) + b"\n")
    assert wiring.host.calls == [("CONFIG", [b"x", *words], NOW)]


@examples
@given(st.binary(max_size=80).filter(lambda line: b"\n" not in line))
def test_any_line_is_answered_or_refused(line):
    connection = Wiring().connect()
    output = feed(connection, b"ECHO " + line + b"\n")
    assert feed(Wiring().connect(), b"ECHO " + line + b"\n", piece=1) == output
    (reply,) = read_resp(output)
    if isinstance(reply, RespError):
        assert reply.startswith(("ERR wrong number of arguments for ECHO", "PROTO unbalanced quotes"))
    else:
        assert reply == as_bytes(ask(Wiring().connect(), "ECHO", reply))


def test_numbers_of_every_length_are_written_in_full():
    wiring = Wiring()
    connection = wiring.connect()
    sizes = [10**power * digit + step for power in range(19) for digit in (1, 5, 9) for step in (-1, 0, 1, 23)]
    wanted = [sign * size for size in [*sizes, 2**63 - 1] for sign in (1, -1) if size < 2**63]
    wiring.host.answer = wanted
    answer = feed(connection, resp(b"CONFIG", b"GET"))
    assert answer == b"*%d\r\n" % len(wanted) + b"".join(b":%d\r\n" % each for each in wanted)


def test_text_of_every_length_is_written_in_full():
    wiring = Wiring()
    connection = wiring.connect()
    for length in (*range(140), 254, 255, 256, 999, 1_000, 65_536):
        text = bytes(65 + n % 57 for n in range(length))
        assert feed(connection, resp(b"ECHO", text)) == b"$%d\r\n%s\r\n" % (length, text)
