"""Channels: who is told what, and when; over each transport, with a clock that jumps."""

import json

import msgpack
import pytest
import trio
from tests.serving import START_MS, echo, in_memory, join, make_server, reached, serving, unbuffered, with_sockets

from online.serve import push
from online.serve.tokens import READ, grant


class Ear:
    """A peer that hears what it is told."""

    def __init__(self, peer):
        self.peer = peer
        self.lines = b""

    async def ask(self, line):
        """Send an inline command that has an answer of one line; return that."""
        await self.peer.send(line + b"\r\n")
        return (await self.read(1))[0]

    async def read(self, n_lines):
        while self.lines.count(b"\r\n") < n_lines:
            data = await self.peer.receive()
            assert data, f"the end after {self.lines!r}"
            self.lines += data
        *lines, self.lines = self.lines.split(b"\r\n", n_lines)
        return lines

    async def subscribe(self, *channels, verb=b"SUBSCRIBE"):
        """Subscribe, and read what confirms it; return how many channels there are."""
        await self.peer.send(b" ".join([verb, *channels]) + b"\r\n")
        for channel in channels:
            head, _, what, _, name, count = await self.read(6)
            assert (head[1:], what, name) == (b"3", verb.lower(), channel)
        return int(count[1:])

    async def state(self):
        """The next state, with its channel; `at_ms` is left out."""
        head, _, what, _, channel, _, text = await self.read(7)
        assert (head[1:], what) == (b"3", b"message")
        state = json.loads(text)
        self.head, self.at_ms = head[:1], state.pop("at_ms")
        return channel.decode(), state

    async def hears_nothing_for(self, seconds):
        with trio.move_on_after(seconds) as waiting:
            heard = await self.state()
        assert waiting.cancelled_caught, heard


def telling(nursery, **settings):
    """A server that tells."""
    server = make_server(**settings)
    nursery.start_soon(server.slices.run)
    nursery.start_soon(server.verbs.push.run, server.slices, server.clock.now_ms)
    return server


def ear(server, nursery, **how):
    return Ear(join(server, nursery, **how))


async def hit(server, user, url="/", kind="member", **more):
    """A hit now, as from another connection."""
    server.sites[b"default"].hit(user.encode(), url.encode(), kind=kind, now_ms=server.clock.now_ms(), **more)


def people(n):
    return ("count", {"people": n})


# When


@in_memory
async def test_a_state_comes_at_once_and_then_when_it_has_changed(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    assert await one.subscribe(b"count") == 1
    began = trio.current_time()
    assert await one.state() == people(0)
    assert trio.current_time() == began
    await one.hears_nothing_for(100)
    await hit(server, "ada")
    assert await one.state() == people(1)
    assert trio.current_time() <= began + 101
    await one.hears_nothing_for(100)


@in_memory
async def test_states_come_once_an_interval_and_are_the_newest(nursery):
    server = telling(nursery, limits={"push_interval_s": 5.0})
    one = ear(server, nursery)
    await one.subscribe(b"count")
    assert await one.state() == people(0)
    await trio.sleep(0.25)
    for n in range(40):  # a hit each half second
        await hit(server, f"user-{n}")
        await trio.sleep(0.5)
    heard = [await one.state() for _ in range(4)]
    assert [state["people"] for _, state in heard] == [10, 20, 30, 40]


@in_memory
async def test_expiry_is_a_change(nursery):
    server = telling(nursery, window_s=60)
    one = ear(server, nursery)
    await hit(server, "ada", "/a")
    await one.subscribe(b"page:/a", b"user:ada", b"count", b"top", b"section:/")
    for _ in range(5):
        _, state = await one.state()
        assert "1" in str(state)
    began = trio.current_time()
    gone = dict([await one.state() for _ in range(5)])
    assert 59 <= trio.current_time() - began <= 61
    assert gone == {
        "page:/a": {"online": 0, "here": 0, "users": [], "cursor": None},
        "user:ada": {"users": [{"user": "ada", "url": None, "seen_ms": None}]},
        "count": {"people": 0},
        "top": {"pages": []},
        "section:/": {"people": 0, "pages": 0},
    }
    await one.hears_nothing_for(1000)


@in_memory
async def test_a_state_that_comes_back_is_not_told_twice(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    await one.subscribe(b"count")
    assert await one.state() == people(0)
    await hit(server, "ada")
    server.sites[b"default"].leave(b"ada", now_ms=server.clock.now_ms())
    await one.hears_nothing_for(100)


@in_memory
async def test_a_step_of_the_wall_clock_is_a_change_of_times_alone(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    await hit(server, "ada", "/a")
    await one.subscribe(b"user:ada", b"count")
    assert (await one.state())[1]["users"] == [{"user": "ada", "url": "/a", "seen_ms": START_MS}]
    assert await one.state() == people(1)
    server.service.clock_step_ms = 3_600_000
    assert (await one.state())[1]["users"] == [{"user": "ada", "url": "/a", "seen_ms": START_MS + 3_600_000}]
    assert one.at_ms >= START_MS + 3_600_000
    await one.hears_nothing_for(100)


# What


@in_memory
async def test_hidden_users_and_bots_are_never_named(nursery):
    server = telling(nursery)
    for user, kind in (("ada", "member"), ("guest-1", "guest"), ("secret", "hidden"), ("crawler", "bot")):
        await hit(server, user, "/a", kind)
    one = ear(server, nursery)
    await one.subscribe(b"page:/a", b"user:secret", b"user:crawler", b"top", b"section:/", b"count")
    heard = dict([await one.state() for _ in range(6)])
    assert heard["page:/a"]["here"] == heard["page:/a"]["online"] == 3
    assert [each["user"] for each in heard["page:/a"]["users"]] == ["guest-1", "ada"]
    assert heard["user:secret"]["users"] == [{"user": "secret", "url": None, "seen_ms": None}]
    assert heard["user:crawler"]["users"] == [{"user": "crawler", "url": None, "seen_ms": None}]
    assert (heard["top"], heard["section:/"]) == ({"pages": [{"url": "/a", "people": 3}]}, {"people": 3, "pages": 1})
    await hit(server, "crawler", "/a", "bot", seen_ms=server.clock.now_ms())
    await one.hears_nothing_for(100)
    await hit(server, "ghost", "/a", "hidden")
    changed = dict([await one.state() for _ in range(4)])
    assert changed["page:/a"]["here"] == 4
    assert "ghost" not in str(changed)


@in_memory
async def test_a_page_names_thirty_and_says_how_to_go_on(nursery):
    server = telling(nursery)
    for n in range(31):
        await hit(server, f"user-{n}", "/a")
    one = ear(server, nursery)
    await one.subscribe(b"page:/a")
    _, state = await one.state()
    asked = server.sites[b"default"].page(b"/a", now_ms=server.clock.now_ms())
    assert [each["user"] for each in state["users"]] == [user.decode() for user, _, _ in asked[2]]
    assert state["cursor"] == asked[3] is not None


@in_memory
async def test_names_of_any_bytes_are_json(nursery):
    server = telling(nursery)
    index = server.sites[b"default"]
    for user in ('a"b\\', "größe", "\x01\n", "\u2028"):
        await hit(server, user, "/ä")
    index.hit(b"\xff\xfe", "/ä".encode(), now_ms=server.clock.now_ms())
    one = ear(server, nursery)
    await one.subscribe("page:/ä".encode())
    channel, state = await one.state()
    assert channel == "page:/ä"
    named = [each["user"] for each in state["users"]]
    assert named == [{"base64": "//4="}, "\u2028", "\x01\n", "größe", 'a"b\\']


@in_memory
async def test_a_section_that_is_too_long_says_so(nursery):
    server = telling(nursery, limits={"max_scan": 2})
    one = ear(server, nursery)
    for n in range(3):
        await hit(server, f"user-{n}", f"/{n}")
    await one.subscribe(b"section:/")
    _, state = await one.state()
    assert state["code"] == "RANGE"
    assert "max_scan" in state["detail"]
    server.sites[b"default"].leave(b"user-0", now_ms=server.clock.now_ms())
    assert await one.state() == ("section:/", {"people": 2, "pages": 2})


@in_memory
async def test_a_site_may_begin_later(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    assert await one.ask(b"SITE shop") == b"+OK"
    await one.subscribe(b"count")
    assert await one.state() == people(0)
    other = ear(server, nursery)
    await hit(server, "ada")
    await other.ask(b"SITE shop")
    await other.ask(b"HIT theo /")
    await other.ask(b"HIT kim /")
    assert await one.state() == people(2)


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        (b"counts", b"-ERR there is no channel \"counts\""),
        (b"count:", b"-ERR there is no channel \"count:\""),
        (b"page", b"-ERR there is no channel \"page\""),
        (b"page:", b"-RANGE url is empty"),
        (b"user:", b"-RANGE user is empty"),
        (b"user:" + 257 * b"u", b"-RANGE user has 257 bytes, the limit is 256"),
        (b"section:" + 2049 * b"s", b"-RANGE prefix has 2049 bytes"),
    ],
    ids=["unknown", "count-of", "page-of-none", "no-url", "no-user", "long-user", "long-prefix"],
)  # fmt: skip
@in_memory
async def test_what_is_no_channel_is_refused(nursery, channel, told):
    server = telling(nursery)
    one = ear(server, nursery)
    assert (await one.ask(b"SUBSCRIBE count " + channel)).startswith(told)
    assert server.verbs.push.n_subscriptions == 0
    assert await one.ask(b"COUNT") == b":0"


# Dialects


@in_memory
async def test_resp2_takes_few_verbs_while_it_is_subscribed(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    await one.subscribe(b"count")
    assert await one.state() == people(0)
    for line in (b"COUNT", b"HIT ada /", b"HELLO 3", b"MULTI", b"SITE shop"):
        assert (await one.ask(line)).startswith(b"-ERR only SUBSCRIBE, UNSUBSCRIBE, PING, QUIT and RESET")
    await one.peer.send(2 * b"*3\r\n$3\r\nHIT\r\n$3\r\nada\r\n$1\r\n/\r\n")
    assert [line[:10] for line in await one.read(2)] == [b"-ERR only "] * 2
    await one.peer.send(b"PING\r\nPING text\r\n")
    assert await one.read(10) == [b"*2", b"$4", b"pong", b"$0", b"", b"*2", b"$4", b"pong", b"$4", b"text"]
    assert await one.subscribe(b"count", verb=b"UNSUBSCRIBE") == 0
    assert await one.ask(b"COUNT") == b":0"
    await one.peer.send(b"UNSUBSCRIBE\r\n")
    assert await one.read(5) == [b"*3", b"$11", b"unsubscribe", b"$-1", b":0"]


@in_memory
async def test_resp3_has_push_messages_between_answers(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    await one.peer.send(b"HELLO 3\r\n")
    assert (await one.peer.receive()).startswith(b"%7\r\n")
    await one.subscribe(b"count", b"user:ada")
    assert await one.state() == people(0)
    assert one.head == b">"
    await one.state()
    assert await one.ask(b"HIT ada /") == b"+OK"
    assert await one.ask(b"COUNT") == b":1"
    assert await one.state() == people(1)
    await one.state()
    await one.peer.send(b"UNSUBSCRIBE\r\n")
    assert [line for line in await one.read(12) if line[:1] == b">"] == [b">3", b">3"]
    assert await one.ask(b"PING") == b"+PONG"


@in_memory
async def test_messagepack_has_notifications(nursery):
    server = telling(nursery)
    peer = join(server, nursery)
    unpacker = msgpack.Unpacker()

    async def following():
        while (message := next(unpacker, None)) is None:
            unpacker.feed(await peer.receive())
        return message

    async def ask(verb, *params):
        await peer.send(msgpack.packb([0, 7, verb, params]))
        return await following()

    assert await ask("subscribe", "count", "page:/ä") == [1, 7, None, 2]
    heard = [await following(), await following()]
    assert [each[:2] for each in heard] == [[2, "state"]] * 2
    told = {channel: json.loads(state) for _, _, (channel, state) in heard}
    assert told["count"]["people"] == told["page:/ä"]["here"] == 0
    assert await ask("HIT", "ada", "/") == [1, 7, None, "OK"]
    assert (await following())[2][0] == "count"
    await following()
    assert await ask("unsubscribe", "count") == [1, 7, None, 1]
    assert await ask("unsubscribe") == [1, 7, None, 0]
    await peer.send(msgpack.packb([2, "subscribe", [b"user:\xff"]]))  # with no answer
    _, what, (channel, _) = await following()
    assert (what, channel) == ("state", b"user:\xff")


@in_memory
async def test_multi_takes_no_subscriptions(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    assert await one.ask(b"MULTI") == b"+OK"
    assert await one.ask(b"SUBSCRIBE count") == b"-ERR SUBSCRIBE inside MULTI is not allowed"
    assert await one.ask(b"UNSUBSCRIBE") == b"-ERR UNSUBSCRIBE inside MULTI is not allowed"
    assert await one.ask(b"COUNT") == b"+QUEUED"
    assert (await one.ask(b"EXEC")).startswith(b"-EXECABORT")


@in_memory
async def test_nothing_is_told_in_the_middle_of_a_long_reply(nursery):
    server = telling(nursery, limits={"max_output": 4096, "push_interval_s": 0.1})
    one = ear(server, nursery, make_line=unbuffered)
    await one.peer.send(b"HELLO 3\r\n")
    assert (await one.peer.receive()).startswith(b"%7\r\n")
    await one.subscribe(b"count")
    assert await one.state() == people(0)
    await one.peer.send(b"MULTI\r\n" + 100 * echo(b"e" * 1000) + b"EXEC\r\n")
    await one.read(102)  # with the first line of what EXEC answers
    await hit(server, "ada")
    await trio.sleep(1)
    assert await one.read(200) == 100 * [b"$1000", b"e" * 1000]
    assert await one.state() == people(1)


# Whose


@in_memory
async def test_a_subscription_stays_with_its_site(nursery):
    server = telling(nursery)
    peer = join(server, nursery)
    await hit(server, "ada")
    unpacker = msgpack.Unpacker()

    async def heard(n):
        messages = []
        while len(messages) < n:
            messages += unpacker
            if len(messages) < n:
                unpacker.feed(await peer.receive())
        return [json.loads(each[2][1])["people"] if each[0] == 2 else each[3] for each in messages]

    pack = msgpack.packb
    await peer.send(pack([0, 1, "subscribe", ["count"]]) + pack([0, 2, "site", ["shop"]]))
    assert await heard(3) == [1, "OK", 1]
    await hit(server, "theo")
    assert await heard(1) == [2]
    await peer.send(pack([0, 3, "subscribe", ["count"]]))  # now that of the shop, and no other
    assert await heard(2) == [1, 0]
    assert server.verbs.push.n_subscriptions == 1
    await hit(server, "kim")
    await peer.send(pack([0, 4, "hit", ["lee", "/"]]))
    assert await heard(2) == ["OK", 1]


@in_memory
async def test_a_token_for_one_site_ends_what_is_told_of_others(nursery):
    server = telling(nursery, tokens=(grant(b"all", READ), grant(b"shop", READ, b"shop")))
    one = ear(server, nursery)
    assert (await one.ask(b"SUBSCRIBE count")).startswith(b"-NOAUTH ")
    await one.peer.send(b"HELLO 3 AUTH default all\r\n")
    assert (await one.peer.receive()).startswith(b"%7\r\n")
    await one.subscribe(b"count")
    await one.state()
    assert await one.ask(b"AUTH shop") == b"+OK"
    assert server.verbs.push.n_subscriptions == 0
    await one.subscribe(b"count")
    await one.state()
    await hit(server, "ada")
    await one.hears_nothing_for(10)
    assert (await one.ask(b"HIT ada /")).startswith(b"-NOPERM ")


@in_memory
async def test_reset_ends_all_subscriptions(nursery):
    server = telling(nursery)
    one = ear(server, nursery)
    await one.subscribe(b"count", b"top")
    await one.state()
    await one.state()
    assert await one.ask(b"RESET") == b"+RESET"
    assert (server.verbs.push.n_subscriptions, server.verbs.push.n_channels) == (0, 0)
    assert await one.ask(b"COUNT") == b":0"
    await hit(server, "ada")
    await one.hears_nothing_for(10)


@pytest.mark.parametrize("how", ["quit", "gone"])
@in_memory
async def test_who_goes_leaves_nothing_behind(nursery, how):
    server = telling(nursery)
    one, other = ear(server, nursery), ear(server, nursery)
    await one.subscribe(b"count", b"page:/a")
    await other.subscribe(b"count")
    assert (server.verbs.push.n_subscriptions, server.verbs.push.n_channels) == (3, 2)
    if how == "quit":
        await one.peer.send(b"QUIT\r\n")
        await one.peer.receive_rest()
    await one.peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    await hit(server, "ada")
    assert await other.state() in (people(0), people(1))
    assert (server.verbs.push.n_subscriptions, server.verbs.push.n_channels) == (1, 1)


# Limits


@in_memory
async def test_a_connection_has_so_many_subscriptions(nursery):
    server = telling(nursery, limits={"max_subscriptions": 2})
    one = ear(server, nursery)
    assert await one.ask(b"SUBSCRIBE count top user:a") == (
        b"-FULL max_subscriptions is reached: 2; nothing was subscribed"
    )
    await one.subscribe(b"count", b"top", b"count")
    assert {(await one.state())[0], (await one.state())[0]} == {"count", "top"}
    assert (await one.ask(b"SUBSCRIBE user:a")).startswith(b"-FULL max_subscriptions ")
    assert reached(server) == {"max_subscriptions_reached": 2}


@in_memory
async def test_all_together_have_so_many_subscriptions(nursery):
    server = telling(nursery, limits={"max_all_subscriptions": 2})
    one, other = ear(server, nursery), ear(server, nursery)
    await one.subscribe(b"count", b"top")
    assert await other.ask(b"SUBSCRIBE count") == b"-FULL max_all_subscriptions is reached: 2; nothing was subscribed"
    await one.peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert await other.subscribe(b"count") == 1
    assert reached(server) == {"max_all_subscriptions_reached": 1}


@in_memory
async def test_many_subscribers_cost_one_question(nursery, monkeypatch):
    server = telling(nursery)
    push = server.verbs.push
    asked = []
    ask = push._ask
    monkeypatch.setattr(push, "_ask", lambda channel, now_ms: asked.append(channel.name) or ask(channel, now_ms))
    ears = [ear(server, nursery) for _ in range(50)]
    for one in ears:
        await one.subscribe(b"page:/a")
        await one.state()
    asked.clear()
    await hit(server, "ada", "/a")
    heard = [await one.state() for one in ears]
    assert asked == [b"page:/a"]
    assert all(each == heard[0] for each in heard)


@in_memory
async def test_who_is_slow_skips_states_and_is_told_the_newest(nursery):
    server = telling(nursery)
    for n in range(30):
        await hit(server, f"user-{n}" + 200 * "x", "/a")
    slow, quick = ear(server, nursery, make_line=unbuffered), ear(server, nursery)
    await slow.subscribe(b"page:/a")
    await quick.subscribe(b"page:/a")
    await quick.state()
    for n in range(8):
        await trio.sleep(0.001)  # the same hit at the same time would change nothing
        await hit(server, f"user-{n}" + 200 * "x", "/a")
        _, newest = await quick.state()
    assert server.service.waiting_bytes < 100_000
    heard = [(await slow.state())[1]]
    while heard[-1] != newest:
        heard.append((await slow.state())[1])
    assert len(heard) < 8
    assert server.verbs.push.skipped
    await slow.hears_nothing_for(10)


@in_memory
async def test_who_takes_nothing_is_closed_in_the_end(nursery):
    server = telling(nursery)
    slow = ear(server, nursery, make_line=unbuffered)
    await slow.subscribe(b"page:/a")
    for n in range(60):
        await hit(server, f"user-{n}" + 200 * "x", "/a")
        await trio.sleep(1)
    assert server.verbs.push.n_subscriptions == 0
    assert reached(server) == {"slow": 1}


# With all of a server around it


@with_sockets
async def test_subscribers_of_a_server_that_keeps_what_it_hears(tmp_path):
    async with serving(state=tmp_path / "state", sync=0.0) as served:
        one = Ear(await served.connect())
        await one.peer.send(b"HIT ada /a\r\nSUBSCRIBE count\r\n")
        assert await one.read(1) == [b"+OK"]
        await one.read(6)
        assert await one.state() == people(1)
        other = await served.connect()
        assert await other.ask(b"HIT theo /a") == b"+OK\r\n"
        assert await one.state() == people(2)
        info = (await other.ask(b"INFO push")).decode()
        assert "subscriptions:1\r\nchannels:1\r\nevents:2\r\n" in info
        listed = (await other.ask(b"CLIENT LIST")).decode()
        assert "flags=P db=0 sub=1 " in listed


# When others are asked


def asking_elsewhere(nursery):
    """A server that tells what others know, and the questions that they have not answered."""
    server = telling(nursery)
    asked = []
    server.verbs.push.elsewhere = lambda site, name, tell: asked.append((name, tell))
    return server, asked


@in_memory
async def test_a_channel_has_one_question_under_way(nursery):
    server, asked = asking_elsewhere(nursery)
    one, two = ear(server, nursery), ear(server, nursery)
    await one.subscribe(b"count")
    await one.hears_nothing_for(10.5)
    (asked_first,) = asked
    await two.subscribe(b"count")
    await two.hears_nothing_for(10)
    asked_first[1](b'{"people":1', 5)
    assert await one.state() == ("count", {"people": 1})
    began = trio.current_time()
    await two.hears_nothing_for(0.1)
    (_, again) = asked  # at once, for who came since then
    again[1](b'{"people":2', 6)
    assert await two.state() == ("count", {"people": 2})
    assert trio.current_time() < began + 1
    await one.hears_nothing_for(1)
    asked[2][1](b'{"people":2', 7)
    assert await one.state() == ("count", {"people": 2})
    assert one.at_ms == 7
    await two.hears_nothing_for(1)


@in_memory
async def test_who_has_gone_is_not_asked_for(nursery):
    server, asked = asking_elsewhere(nursery)
    one = ear(server, nursery)
    await one.peer.send(b"SUBSCRIBE count\r\nUNSUBSCRIBE count\r\nSUBSCRIBE top\r\n")
    await one.read(18)
    await trio.sleep(0.1)
    ((name, tell),) = asked
    assert name == b"top"
    await one.peer.send(b"UNSUBSCRIBE top\r\n")
    await one.read(6)
    tell(b'{"pages":[]', 5)
    await one.hears_nothing_for(10)
    assert len(asked) == 1


@in_memory
async def test_so_many_are_asked_and_the_others_come_first_at_the_next_interval(nursery, monkeypatch):
    monkeypatch.setattr(push, "MOST_ASKED", 2)
    server, asked = asking_elsewhere(nursery)
    one = ear(server, nursery)
    names = [b"user:%d" % n for n in range(4)]
    await one.subscribe(*names)
    await trio.sleep(0.1)
    heard = []
    for _ in range(3):
        heard.append(sorted(name for name, _ in asked))
        answers = asked.copy()
        asked.clear()
        for _, tell in answers:
            tell(b'{"users":[]', 5)
        await trio.sleep(1)
    assert heard == [names, names[:2], names[2:]]
