"""What must not be possible: to guess a token by time, to read files, to speak old TLS, to write a line of another."""

import ast
import hmac
import inspect
import logging
import os
import ssl
import stat
import textwrap
import tracemalloc

import pytest
import trustme
from tests.serving import Line, in_memory, join, make_server, serving, with_sockets

from online.logs.formats import reader_of
from online.logs.pages import Pages
from online.logs.rules import Rules
from online.serve import tls, verbs_access

TOKEN = b"correct horse"


@pytest.fixture
def guarded(make_verbs):
    """Lines to a server that wants a token, each a connection: a wrong one ends it."""
    verbs = make_verbs(token=TOKEN)
    return lambda: Line(verbs)


def test_tokens_are_compared_in_constant_time(guarded, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert guarded().ask("AUTH", "correct hors").startswith("WRONGPASS")
    assert guarded().ask("AUTH", TOKEN) == "OK"
    assert [one == other for one, other in compared] == [False, True]
    assert {len(each) for pair in compared for each in pair} == {32}  # digests, whose length tells nothing


def test_nothing_else_compares_a_token():
    tree = ast.parse(textwrap.dedent(inspect.getsource(verbs_access)))
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert [each for each in compared if "token in" in each or "token ==" in each.replace("without_token", "")] == []


def test_cursors_are_compared_whole(line):
    """One byte changed anywhere is refused the same way, wherever it stands."""
    for user in ("a", "b", "c"):
        line.ask("HIT", user, "/x")
    cursor = line.ask("RECENT", 1)[1]
    changed = {line.ask("RECENT", 1, cursor[:at] + "!" + cursor[at + 1 :]).split(" ")[0] for at in range(len(cursor))}
    assert changed == {"RANGE"}


@in_memory
async def test_every_file_is_for_its_owner_alone(nursery, tmp_path):
    before = os.umask(0)  # nobody helps
    try:
        server = make_server(state=tmp_path / "state", syslog=())
        await nursery.start(server.run)
        await join(server, nursery).ask(b"HIT theo /x")
        await server.parts[0]._take_snapshot()
        files = [tmp_path / "state", *(tmp_path / "state").iterdir()]
        assert {path.name.partition("-")[0] for path in files} >= {"state", "journal", "snapshot", "lock"}
        for path in files:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    finally:
        os.umask(before)


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    return tls.server_context(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_tls_is_1_2_or_later_with_ciphers_that_keep_secrets(certificate):
    assert certificate.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert certificate.options & ssl.OP_NO_COMPRESSION
    ciphers = certificate.get_ciphers()
    assert ciphers
    for cipher in ciphers:
        assert cipher["strength_bits"] >= 128, cipher["name"]
        assert cipher["aead"] or "SHA" in cipher["name"], cipher["name"]
        assert not any(weak in cipher["name"] for weak in ("RC4", "DES", "MD5", "NULL", "EXP", "anon")), cipher["name"]


@pytest.mark.parametrize("name", [b"a\r\n-ERR b", b"a\nINFO x", b"\x1b[31m", b"a\0b", "a\u2028b".encode()])
def test_no_name_begins_a_line_of_the_log_or_of_info(name, guarded, caplog):
    caplog.set_level(logging.INFO, "online")
    guarded().ask("AUTH", name)
    line = guarded()
    line.ask("AUTH", name, TOKEN)
    line.ask("HIT", name, "/x")
    line.ask("CLIENT", "SETNAME", name)
    for record in caplog.records:
        assert record.getMessage().isprintable()
    lines = line.ask("INFO").split("\r\n")
    assert all(not each or each.startswith("# ") or ":" in each for each in lines)
    assert all(each.isprintable() for each in lines)


@pytest.mark.parametrize("verb", ["GET", "POST", "OPTIONS", "PUT", "DELETE", "HEAD", "CONNECT", "TRACE", "PATCH"])
@with_sockets
async def test_a_web_page_cannot_speak_to_this_port(verb):
    async with serving() as running:
        peer = await running.connect()
        await peer.send(f"{verb} /HIT HTTP/1.1\r\nHost: x\r\n\r\nHIT theo /x\r\n".encode())
        answer = await peer.receive()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"+OK" not in answer
        await peer.stream.aclose()
        assert running.server.statistics().users == 0


def test_a_log_line_cannot_make_up_another():
    pages = Pages(reader_of("combined"), Rules(), key=b"k" * 32)
    line = b'::1 - - [14/Nov/2023:22:13:20 +0000] "GET /x%0d%0aHIT HTTP/1.1" 200 1 "-" "a\\" 200 1 \\"b"'
    found = pages.parse(line)
    assert found.url == b"/x%0D%0AHIT"
    assert found.user.startswith(b"guest-")


def test_strangers_cost_little(guarded):
    """A connection without the token holds no buffer, and a message of it cannot be long."""
    line = guarded()
    service = line.verbs.service
    tracemalloc.start()
    held = [line.verbs.connections.open()[0] for _ in range(1_000)]
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for connection in held:
        connection.receive(b"*1\r\n$3", now_ms=line.now_ms)
    assert n_bytes / len(held) < 2_000
    assert service.buffered_bytes / len(held) <= 256
    held[0].receive(b"00000\r\n" + b"x" * 100_000, now_ms=line.now_ms)
    assert held[0].is_closing
    assert b"PROTO" in held[0].take_output()
