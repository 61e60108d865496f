"""Access logs over syslog: what becomes hits, what is counted, and turns that end."""

import json
import re
import socket
import time

import msgpack
import pytest
import trio
from tests.serving import (
    LOCAL,
    START_MS,
    make_server,
    run_command,
    run_in_real_time,
    server_process,
    serving,
    until_turn,
)

from online.core.wire import NOT_YET
from online.errors import ConfigError
from online.limits import Limits
from online.logs.pages import PackedViews
from online.logs.rules import read_network
from online.serve.config import Address, Config


def json_line(user="", url="/a", seen_ms=None, **changed):
    seen_ms = time.time_ns() // 1_000_000 if seen_ms is None else seen_ms
    values = {"time": seen_ms / 1000, "user": user, "url": url, "status": 200, "method": "GET", "address": "::1"}
    return json.dumps(values | changed).encode()


def syslog_of(server):
    """The part of a server that receives syslog."""
    return next(part for part in server.parts if part.name == "syslog")


def told_by(server, now_ms):
    """INFO's section on syslog, as text."""
    text = NOT_YET
    while text is NOT_YET:
        text = server.verbs.call(server.connections.open()[0], "INFO", [b"syslog"], now_ms)
    return text


def info_of(server):
    text = told_by(server, server.clock.now_ms())
    return dict(line.split(":") for line in text.split("\r\n") if ":" in line)


async def send(server, *datagrams):
    address = syslog_of(server).addresses[0]
    unix = address.path is not None
    with trio.socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        await sender.connect(str(address.path) if unix else (address.host, address.port))
        for datagram in datagrams:
            await sender.send(datagram)


@pytest.mark.parametrize("is_unix", [False, True])
def test_lines_become_hits_and_what_is_none_is_counted(tmp_path, is_unix):
    address = Address(path=tmp_path / "syslog") if is_unix else LOCAL

    async def test():
        async with serving(syslog=(address,)) as running:
            server = running.server
            await send(
                server,
                b"<190>Nov 22 23:55:00 web1 nginx: " + json_line("theo", "/x?y=1"),
                json_line("", "/x", agent="Googlebot/2.1"),
                json_line("no", "/a.css"),
                json_line("no", status=404),
                json_line("no", method="PUT"),
                b"<11>Nov 22 23:55:00 web1 nginx: 2026/11/22 [error] something failed",
                b"",
                b"\0" * 1000,
                b"x" * 60_000,
            )
            await until_turn(lambda: syslog_of(server).counts.received == 9)
            index = server.verbs.sites[b"default"]
            assert index.kinds(now_ms=server.clock.now_ms()) == [1, 0, 0, 1]
            assert index.seen([b"theo"], now_ms=server.clock.now_ms())[0][0] == b"/x"
            told = info_of(server)
            assert int(told.pop("buffer_bytes")) > 100_000
            assert told == {
                "received": "9", "hits": "2", "skipped_method": "1", "skipped_status": "1", "skipped_file": "1",
                "skipped_target": "0", "skipped_rewrite": "0", "skipped_aside": "0", "skipped_site": "0",
                "skipped_not_understood": "4", "foreign": "0", "dropped": "0",
            }  # fmt: skip
        assert not (tmp_path / "syslog").exists()

    run_in_real_time(test)


def test_a_line_may_say_the_kind_of_its_user():
    async def test():
        async with serving(syslog=(LOCAL,)) as running:
            kinds = ("member", "guest", "hidden", "bot", "boss", "")
            await send(running.server, *(json_line(f"u{n}", kind=kind) for n, kind in enumerate(kinds)))
            await until_turn(lambda: syslog_of(running.server).counts.received == 6)
            index = running.server.verbs.sites[b"default"]
            assert index.kinds(now_ms=running.server.clock.now_ms()) == [2, 1, 1, 1]
            told = info_of(running.server)
            assert (told["hits"], told["skipped_not_understood"]) == ("5", "1")

    run_in_real_time(test)


def people_by_site(server):
    now_ms = server.clock.now_ms()
    return {name: index.count(now_ms=now_ms) for name, index in server.verbs.sites.items()}


@pytest.mark.parametrize("site", ["shop", "größe", "-"])
def test_hits_go_to_the_site_that_is_named(site):
    async def test():
        async with serving(syslog=(LOCAL,), syslog_site=site) as running:
            await send(running.server, json_line("theo"), json_line("dora", host="www.example.com"))
            await until_turn(lambda: syslog_of(running.server).counts.hits == 2)
            assert people_by_site(running.server) == {b"default": 0, site.encode(): 2}

    run_in_real_time(test)


def test_each_host_can_be_a_site():
    lines = [
        json_line("theo", host="WWW.example.com:443"),
        json_line("dora", host="www.example.com."),
        json_line("uwe", "http://blog.example.com/a", host="other.example.com"),
        json_line("eve", "/a.css", host="files.example.com"),  # not a page view
        *(json_line("eve", host=host) for host in ("", "-", "x" * 65)),  # not a site
        json_line("eve", host="one.more.example.com"),
    ]

    async def test():
        limits = Limits(max_sites=3)
        async with serving(syslog=(LOCAL,), syslog_site="by-host", limits=limits) as running:
            await send(running.server, *lines)
            await until_turn(lambda: syslog_of(running.server).counts.received == len(lines))
            sites = {b"default": 0, b"www.example.com": 2, b"blog.example.com": 1}
            await until_turn(lambda: people_by_site(running.server) == sites)
            counts = syslog_of(running.server).counts
            await until_turn(lambda: counts.skipped == {"file": 1, "site": 4})
            assert counts.hits == 3

    run_in_real_time(test)


def test_hostile_and_odd_times_push_nobody_out_and_keep_nobody_online():
    """A line of the future is of now; one of 1970 is none; the zone of where a line was written changes nothing."""
    ago = time.gmtime(time.time() - 600 + 5.5 * 3600)
    lines = {
        b"future": b"31/Dec/2100:23:59:59 +0000",
        b"past": b"01/Jan/1970:00:00:00 +0000",
        b"elsewhere": time.strftime("%d/%b/%Y:%H:%M:%S +0530", ago).encode(),
        b"yesterday": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(time.time() - 86_400)).encode(),
    }

    async def test():
        async with serving(syslog=(LOCAL,)) as running:
            server = running.server
            text = b'<13>Nov 22 23:55:00 www httpd: ::1 - %s [%s] "GET /\xff\\"\\x22 HTTP/1.1" 200 5'
            await send(server, *(text % each for each in lines.items()))
            await until_turn(lambda: syslog_of(server).counts.received == 4)
            now_ms = server.clock.now_ms()
            seen = dict(zip(lines, server.verbs.sites[b"default"].seen(list(lines), now_ms=now_ms), strict=True))
            assert abs(seen[b"future"][1] - now_ms) < 60_000
            assert abs(seen[b"elsewhere"][1] - now_ms + 600_000) < 60_000
            assert seen[b"past"] is seen[b"yesterday"] is None
            assert seen[b"future"][0] == b'/%FF""'
            assert dict(syslog_of(server).counts.skipped) == {"not_understood": 1}

    run_in_real_time(test)


def test_times_of_lines_are_wall_time_whatever_was_done_to_the_clock():
    async def test():
        server = make_server(syslog=(LOCAL,))
        now_ms = server.clock.now_ms()
        server.verbs.service.clock_step_ms = 3_600_000
        view = b"theo", b"/", now_ms + 3_600_000 - 1000, "member"
        syslog_of(server)._give(b"default", [PackedViews(msgpack.packb(view), 1, view[2], [], [])])
        assert server.verbs.sites[b"default"].seen([b"theo"], now_ms=now_ms)[0] == (b"/", START_MS - 1000)

    trio.run(test, clock=trio.testing.MockClock())


def test_others_have_their_turn_while_lines_come_without_end(monkeypatch):
    async def test():
        async with serving(syslog=(LOCAL,)) as running:
            counts = syslog_of(running.server).counts
            receiving = syslog_of(running.server)._sockets[0]
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with one, other:
                other.send(json_line("theo"))
                receiving.datagrams.receive(one.fileno())
            monkeypatch.setattr(receiving, "receive", lambda: True)  # the same again
            await send(running.server, json_line("theo"))
            await until_turn(lambda: counts.received > 1000)
            peer = await running.connect()
            assert await peer.ask(b"COUNT") == b":1\r\n"
            turns = counts.received
            await until_turn(lambda: counts.received > turns)

    run_in_real_time(test)


def test_what_the_kernel_dropped_is_counted():
    async def test():
        async with serving(syslog=(LOCAL,)) as running:
            server = running.server
            receiving = syslog_of(server)._sockets[0]
            receiving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            address = syslog_of(server).addresses[0]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect((address.host, address.port))
                for _ in range(500):  # without a turn for the server
                    sender.send(json_line("theo"))
            await until_turn(lambda: syslog_of(server).counts.received)
            await trio.sleep(0.05)
            await send(server, json_line("theo"))
            counts = syslog_of(server).counts
            await until_turn(lambda: counts.received + counts.dropped == 501)
            assert counts.dropped > 0

    run_in_real_time(test)


@pytest.mark.parametrize(("network", "is_taken"), [("127.0.0.0/8", True), ("10.0.0.0/8", False)])
def test_beyond_this_machine_only_named_networks_may_send(network, is_taken):
    async def test():
        settings = {"syslog": (Address("0.0.0.0", 0),), "syslog_from": (read_network(network),)}
        async with serving(**settings) as running:
            server = running.server
            for _ in range(3):
                await send(server, json_line("theo"))
            counts = syslog_of(server).counts
            await until_turn(lambda: counts.received + counts.foreign == 3)
            assert counts.received == (3 if is_taken else 0)

    run_in_real_time(test)


def test_address_beyond_this_machine_needs_to_know_who_may_send():
    with pytest.raises(ConfigError, match="name the networks that may send in syslog_from"):
        Config(syslog=(Address("0.0.0.0", 5140),))
    done = run_command("serve", "--syslog", "0.0.0.0:5140")
    assert done.returncode == 2
    assert "0.0.0.0:5140 is open to other machines: name the networks that may send in syslog_from" in done.stderr


def test_address_that_is_taken_is_named(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = run_command("serve", "--listen", "127.0.0.1:0", "--syslog", taken)
    assert done.returncode == 2
    assert f"cannot receive syslog at {taken}: Address already in use" in done.stderr
    (tmp_path / "file").touch()
    done = run_command("serve", "--listen", "127.0.0.1:0", "--syslog", f"unix:{tmp_path}/file")
    assert "exists and is not a socket" in done.stderr


def test_server_without_syslog_says_nothing_of_it():
    server = make_server_at_rest()
    assert told_by(server, 0) == ""


def make_server_at_rest():
    async def make():
        return make_server()

    return trio.run(make, clock=trio.testing.MockClock())


def test_settings_come_from_the_command_line_and_guests_keep_their_names(tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('with_host = true\nkeep_params = ["p"]\n')
    arguments = (
        *("--syslog", "127.0.0.1:0", "--syslog-format", "$msec $host $remote_addr $request_uri"),
        *("--syslog-rules", rules, "--state", tmp_path / "state"),
    )
    for people in (1, 1):
        with server_process(*arguments) as server:
            port = next(match[1] for told in server.log if (match := re.search(r"syslog at 127.0.0.1:(\d+)", told)))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", int(port)))
                sender.send(b"%.3f example.org 198.51.100.7 /a?q=1&p=2" % time.time())
            with socket.create_connection(("127.0.0.1", server.port)) as asking:
                count = b":0\r\n"
                while count == b":0\r\n":
                    asking.send(b"COUNT example.org/a?p=2\r\n")
                    count = asking.recv(100)
                asking.send(b"COUNT\r\n")
                assert asking.recv(100) == b":%d\r\n" % people
            assert server.end() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--syslog-format", "xml"], "format takes auto"),
        (["--syslog-rules", "/nowhere/rules"], "rules /nowhere/rules: No such file"),
        (["--syslog-site", "s" * 65], "--syslog-site takes a name of 1 to 64 bytes, or by-host, not"),
        (["--syslog-from", "everybody"], '--syslog-from takes a network such as 10.0.0.0/8, not "everybody"'),
    ],
)
def test_wrong_settings_are_said(arguments, message):
    done = run_command("serve", "--listen", "127.0.0.1:0", "--syslog", "127.0.0.1:0", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
