"""A gateway judges by what its servers are set to, whenever they tell, and says what differs."""

import logging
from contextlib import AsyncExitStack
from functools import partial

import msgpack
import pytest
import trio
import trio.testing
from tests.bus.servers import async_test, until
from tests.gateway.beside import Asked, AskedInResp, beside
from tests.gateway.test_gateway import map_of, server_at, started
from tests.serving import LOCAL, run

from online.cli import gateway
from online.gateway import settings
from online.gateway.health import Health
from online.gateway.lines import AwayError
from online.limits import JUDGED, Limits
from online.serve.config import Config
from online.serve.tokens import grant
from online_client.address import parse_addresses

SMALL = {"max_frame": 4_096, "max_items": 40, "max_depth": 3, "max_user": 9, "max_url": 20, "max_limit": 7}
LARGE = {"max_frame": 2**22, "max_items": 70_000, "max_depth": 9, "max_user": 999, "max_url": 9_999, "max_limit": 1_500}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(settings, "LOOK_S", 0.02)


def edges(limits):
    """Questions at each limit, and one beyond it."""
    for n in (0, 1):
        user, url = (limits["max_user"] + n) * b"u", (limits["max_url"] + n) * b"/"
        most = limits["max_limit"] + n
        yield from (("HIT", user, b"/a"), ("HIT", b"ada", url), ("LEAVE", user), ("LAST", user), ("SEEN", user))
        yield from (("COUNT", url), ("PAGE", url), ("SECTION", url), ("TOP", 5, url), ("USERS", user))
        yield from (("PAGE", b"/a", most), ("RECENT", most), ("TOP", most), ("SEEN", *[b"no"] * most))
        yield from (("COUNTS", *[b"/a"] * most), ("COUNT", b"", 300 + n), ("SUBSCRIBE", b"page:" + url, b"none"))


def frames(limits):
    """Messages at each limit of messages, and one beyond it."""
    for n in (0, 1):
        yield [b"SEEN", [b"no"] * (limits["max_items"] + n)]
        yield [b"hits", [[b"ada", b"/a"]] * (limits["max_items"] + n)]
        yield [b"ECHO", [(limits["max_frame"] + n - 2_000) * b"x", 1_978 * b"y"]]
        value = b"x"
        for _ in range(limits["max_depth"] - 2 + n):
            value = [value]
        yield [b"ECHO", [value]]


@pytest.mark.parametrize("limits", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", [Asked, AskedInResp], ids=["packed", "resp"])
def test_questions_are_judged_as_by_a_server(kind, limits, tmp_path, monkeypatch):
    async def compare():
        async with beside(2, tmp_path, monkeypatch, **limits) as opened:
            merged, one = (each(kind) for each in opened)
            differing = []
            for question in edges(limits):
                if kind is AskedInResp:
                    question = [str(each) if isinstance(each, int) else each for each in question]
                given, wanted = await merged(*question), await one(*question)
                if given != wanted:
                    differing.append((question, given, wanted))
            assert differing == []

    run(compare)


@pytest.mark.parametrize("limits", [SMALL, LARGE], ids=["small", "large"])
def test_messages_are_judged_as_by_a_server(limits, tmp_path, monkeypatch):
    async def compare():
        async with beside(2, tmp_path, monkeypatch, **limits) as opened:
            for message in frames(limits):
                merged, one = (each() for each in opened)
                request = msgpack.packb([0, 1, *message])
                assert await merged.send(request) == await one.send(request)

    run(compare)


async def opened(stack, path, *servers, **config):
    """Start servers, and a gateway to a partition of each."""
    running = [await stack.enter_async_context(started(each)) for each in servers]
    map_of(path, *(each.server.addresses[0].port for each in running))
    made = gateway.assemble(path, Config(listen=(LOCAL,), http=(), **config))
    return await stack.enter_async_context(started(made)), running


async def info(running):
    text = await running.ask(b"INFO server settings gateway")
    return dict(line.partition(":")[::2] for line in text.split("\r\n"))


def warned(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@async_test
async def test_the_first_question_is_judged_by_what_servers_tell(tmp_path):
    async with AsyncExitStack() as stack:
        servers = [server_at(window_s=7_200, limits=Limits(**LARGE)) for _ in range(2)]
        asking, _ = await opened(stack, tmp_path / "map.toml", *servers)
        assert await asking.ask(b'COUNT "" 7200') == ":0"
        shown = await info(asking)
        assert shown["window_s"] == "7200"
        assert {name: int(shown[name]) for name in LARGE} == LARGE
        assert shown["gateway_settings_differ"] == "0"


@async_test
async def test_servers_that_differ_are_named_and_the_smaller_holds(tmp_path, caplog):
    async with AsyncExitStack() as stack:
        one, two = server_at(window_s=300), server_at(limits=Limits(max_frame=2**19))
        asking, running = await opened(stack, tmp_path / "map.toml", one, two)
        first, second = (f"online://127.0.0.1:{each.server.addresses[0].port}" for each in running)
        assert warned(caplog) == [
            f"window is 5min at {first} and 30min at {second}: the gateway goes by the smaller",
            f"max_frame is 512KiB at {second} and 1MiB at {first}: the gateway goes by the smaller",
        ]
        shown = await info(asking)
        assert (shown["window_s"], shown["max_frame"], shown["gateway_settings_differ"]) == ("300", str(2**19), "2")


@async_test
async def test_a_server_that_stands_by_is_asked_too(tmp_path, caplog):
    async with AsyncExitStack() as stack:
        standby = await stack.enter_async_context(started(server_at(limits=Limits(max_limit=7))))
        one = await stack.enter_async_context(started(server_at()))
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
        port = standby.server.addresses[0].port
        path.write_text(path.read_text().replace('"]', f'", "online://127.0.0.1:{port}"]'))
        await stack.enter_async_context(started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))))
        [said] = warned(caplog)
        assert said.startswith(f"max_limit is 7 at online://127.0.0.1:{port} and 1000 at ")


@async_test
async def test_a_server_comes_back_with_others(tmp_path):
    async with AsyncExitStack() as stack:
        one = server_at()
        asking, [running] = await opened(stack, tmp_path / "map.toml", one)
        peer = await asking.connect()  # that has been there all the time
        assert b"1 to 1800" in await peer.ask(b'COUNT "" 1801')
        for window_s, limits in ((7_200, LARGE), (60, SMALL), (3_600, {})):
            one.stop()
            await running.ended.wait()
            one = server_at(running.server.addresses[0], window_s=window_s, limits=Limits(**limits))
            running = await stack.enter_async_context(started(one))
            await until(lambda window_s=window_s: asking.server.sites.window_s == window_s)
            assert await peer.ask(b'COUNT "" %d' % window_s) == b":0\r\n"
            assert b"1 to %d" % window_s in await peer.ask(b'COUNT "" %d' % (window_s + 1))
            most = Limits(**limits).max_limit
            assert b"0 to %d" % most in await peer.ask(b"RECENT %d" % (most + 1))
        await peer.stream.aclose()


@async_test
async def test_a_frame_that_has_begun_when_limits_change_does_no_harm(tmp_path):
    async with AsyncExitStack() as stack:
        asking, [running] = await opened(stack, tmp_path / "map.toml", server_at(limits=Limits(**LARGE)))
        resp, packed = await asking.connect(), await asking.connect()
        await resp.send(b"*3000\r\n" + b"$4\r\nSEEN\r\n" + 2_000 * b"$1\r\nu\r\n")
        whole = msgpack.packb([0, 1, "SEEN", 3_000 * ["u"]])
        await packed.send(whole[:2_000])
        await until(lambda: asking.server.service.buffered_bytes > 10_000)
        running.server.stop()
        await running.ended.wait()
        await stack.enter_async_context(
            started(server_at(running.server.addresses[0], limits=Limits(**SMALL | {"max_frame": 2**20})))
        )
        await until(lambda: asking.server.service.limits.max_items == SMALL["max_items"])
        await packed.send(whole[2_000:])
        assert b"3000 users in one question, max_limit is 7" in await packed.receive()
        await resp.send(999 * b"$1\r\nu\r\n")
        assert b"PROTO" in await resp.receive()
        for each in (resp, packed):
            await each.stream.aclose()


@async_test
async def test_what_the_gateway_was_given_is_said_to_differ(tmp_path, caplog):
    async with AsyncExitStack() as stack:
        own = Limits(max_limit=50, max_url=99)
        server = server_at(window_s=300, limits=Limits(max_url=99))
        asking, [one] = await opened(stack, tmp_path / "map.toml", server, window_s=600, limits=own)
        at = f"at online://127.0.0.1:{one.server.addresses[0].port}: the gateway goes by its servers"
        assert warned(caplog) == [
            f"window is 10min at this gateway and 5min {at}",
            f"max_limit is 50 at this gateway and 1000 {at}",
        ]
        shown = await info(asking)
        assert [shown[name] for name in ("window_s", "max_limit", "max_url")] == ["300", "1000", "99"]


@async_test
async def test_its_own_hold_until_a_server_was_reached(tmp_path):
    async with AsyncExitStack() as stack:
        first = server_at(window_s=300)
        async with started(first) as away:
            address = away.server.addresses[0]
            first.stop()
        path = map_of(tmp_path / "map.toml", address.port)
        made = gateway.assemble(path, Config(listen=(LOCAL,), http=(), window_s=600))
        asking = await stack.enter_async_context(started(made))
        assert "1 to 600" in await asking.ask(b'COUNT "" 601')
        assert "PARTIAL" in await asking.ask(b'COUNT "" 600')
        await stack.enter_async_context(started(server_at(address, window_s=300)))
        await until(lambda: made.sites.window_s == 300)


@async_test
async def test_servers_of_another_map_are_asked(tmp_path):
    async with AsyncExitStack() as stack:
        path = tmp_path / "map.toml"
        asking, _ = await opened(stack, path, server_at(window_s=300))
        two = await stack.enter_async_context(started(server_at(window_s=7_200)))
        path.write_text(map_of(path, two.server.addresses[0].port).read_text().replace("version = 1", "version = 2"))
        asking.server.reload(asking.server.config)
        await until(lambda: asking.server.sites.window_s == 7_200)
        assert await asking.ask(b'COUNT "" 7200') == ":0"
        assert (await info(asking))["gateway_settings_differ"] == "0"


async def silent(stream):
    await stream.receive_some()
    await trio.sleep_forever()


@async_test
async def test_a_map_that_comes_while_the_gateway_starts_is_gone_by(tmp_path):
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(started(server_at(window_s=300)))
        nursery = await stack.enter_async_context(trio.open_nursery())
        [listener] = await nursery.start(partial(trio.serve_tcp, silent, 0, host="127.0.0.1"))
        path = map_of(tmp_path / "map.toml", listener.socket.getsockname()[1])
        made = gateway.assemble(path, Config(listen=(LOCAL,), http=()))
        nursery.start_soon(made.run)
        await until(lambda: made.parts[-1]._nursery is not None)
        path.write_text(map_of(path, one.server.addresses[0].port).read_text().replace("version = 1", "version = 2"))
        made.reload(made.config)
        await until(lambda: made.addresses)
        assert made.sites.window_s == 300
        made.stop()
        nursery.cancel_scope.cancel()


@async_test
async def test_settings_that_cannot_be_taken_are_not_said_to_hold(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with AsyncExitStack() as stack:
        server = server_at(window_s=86_400)
        asking, _ = await opened(stack, tmp_path / "map.toml", server, limits=Limits(max_memory=2**20))
        assert asking.server.sites.window_s == Config.window_s
    assert "cannot judge questions as servers do: their window takes more memory than max_memory" in caplog.text
    assert "questions are judged by" not in caplog.text


def test_a_server_that_refuses_the_token_is_left_alone_for_a_while():
    async def run():
        asked = []
        [server] = parse_addresses("online://127.0.0.1:1")
        found = settings.Settings([Health(0, [server])], {}, lambda **holding: True)
        [line] = found._lines
        line.run = trio.sleep_forever
        line.ask = lambda *args, **options: asked.append(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.run)
            await trio.sleep(settings.LOOK_S / 2)
            found.failed(0, AwayError("online://127.0.0.1:1: WRONGPASS no such token"))
            await trio.sleep(settings.REFUSED_S)
            assert len(asked) == 1
            await trio.sleep(3 * settings.LOOK_S)
            assert len(asked) > 2
            found.close()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


@async_test
async def test_a_token_for_one_site_is_enough(tmp_path):
    token = b"sixteen-bytes-or-more"
    async with AsyncExitStack() as stack:
        server = server_at(window_s=300, tokens=(grant(token, "read", b"shop"),))
        one = await stack.enter_async_context(started(server))
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
        path.write_text(path.read_text().replace("online://", f"online://:{token.decode()}@"))
        made = gateway.assemble(path, Config(listen=(LOCAL,), http=()))
        await stack.enter_async_context(started(made))
        assert made.sites.window_s == 300


ROWS = "# Server\r\nwindow_s:300\r\n# Settings\r\nmax_user:9\r\n"
NO_SETTINGS = [b"\xc1", msgpack.packb(7), msgpack.packb([1]), msgpack.packb(b"\xff"), msgpack.packb("")]


@pytest.mark.parametrize("answer", NO_SETTINGS, ids=repr)
def test_what_tells_nothing_has_no_say(answer):
    told = []
    health = Health(0, parse_addresses("online://127.0.0.1:1"))
    found = settings.Settings([health], {}, lambda **holding: told.append(holding))
    found.answered(0, answer, 0, 0)
    assert told == []
    found.answered(0, msgpack.packb(ROWS), 0, 0)
    assert told == [{"window_s": 300, "max_user": 9}]


@pytest.mark.parametrize("row", ["window_s:0", "window_s:", "max_user:-1", "max_depth:99", "max_items:1e9", "max_url"])
def test_a_value_that_cannot_be_has_no_say(row):
    told = []
    health = Health(0, parse_addresses("online://127.0.0.1:1"))
    found = settings.Settings([health], {}, lambda **holding: told.append(holding))
    found.answered(0, msgpack.packb(f"max_limit:5\r\n{row}\r\n"), 0, 0)
    assert told == [{"max_limit": 5}]


@pytest.mark.parametrize("loading", [0, 1])
def test_a_server_that_says_it_is_loading_is_not_well_until_it_is_loaded(loading):
    async def run():
        health = Health(0, parse_addresses("online://127.0.0.1:1,127.0.0.1:2"))
        found = settings.Settings([health], {}, lambda **holding: True)
        found.answered(0, msgpack.packb("loading:1\r\n"), 0, 0)
        assert health.first().port == 2
        found.answered(0, msgpack.packb(f"loading:{loading}\r\n"), 0, 0)
        assert health.first().port == 1 + loading

    trio.run(run)


def test_every_limit_of_a_question_or_a_message_is_told():
    own = {
        *("max_connections", "max_frame_before_auth", "max_sites", "max_output", "max_buffers", "send_timeout_s"),
        *("frame_timeout_s", "auth_timeout_s", "max_subscriptions", "max_all_subscriptions", "push_interval_s"),
    }
    of_users = {"max_users", "max_pages", "max_memory"}  # who keeps nobody reaches none of them
    assert own | of_users | set(JUDGED) == set(vars(Limits()))
