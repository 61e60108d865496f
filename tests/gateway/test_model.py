"""A gateway before servers that run, by random steps: whatever is asked, it answers as one server with all users."""

import random

import pytest
import trio
from tests.gateway.beside import WINDOW_S, beside
from tests.serving import START_MS, Wall, run

from online.core import verbs
from online.gateway import merging

USERS = [b"user-%d" % number for number in range(16)]
URLS = [b"/a", b"/b", b"/c/1", b"/c/2"]
SITES = [b"default", b"shop", b"news"]
KINDS = [b"member", b"member", b"guest", b"hidden", b"bot"]

#: What is answered about the gateway or the connection, and not about who is online.
ABOUT_THE_GATEWAY = {
    *("AUTH", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "ECHO", "HELLO", "INFO", "LATENCY", "MEMORY", "PING", "QUIT"),
    *("RESET", "ROLE", "SELECT", "SITE", "SLOWLOG", "TIME", "WAIT"),
}

#: Made of other verbs. A transaction is compared here, channels are in test_channels.
MADE_OF_OTHERS = {"DISCARD", "EXEC", "MULTI", "SUBSCRIBE", "UNSUBSCRIBE", "UNWATCH", "WATCH"}


def test_every_verb_of_a_server_is_merged_or_refused_or_about_the_gateway():
    known = {usage.split()[0] for usage, *_ in verbs.rows()} | {"hits"}
    groups = [set(merging.VERBS), set(merging.REFUSED), ABOUT_THE_GATEWAY, MADE_OF_OTHERS]
    assert set().union(*groups) == known
    assert sum(map(len, groups)) == len(known)


class Compared:
    """A gateway, and one server that has all users."""

    def __init__(self, merged, one, n):
        self._merged, self._one, self._n = merged, one, n
        self.random = random.Random(n)
        self._wall = Wall()
        self.asked: set[str] = set()  #: verbs that were compared
        self.falls: set[int] = set()  #: minutes in which somebody went, or became another kind

    @property
    def now_ms(self):
        return self._wall()

    async def both(self, verb, *args):
        self.asked.add(verb)
        return await self._merged(verb, *args), await self._one(verb, *args)

    async def check(self, verb, *args):
        merged, one = await self.both(verb, *args)
        assert merged == one, (verb, args)

    async def pass_s(self, seconds):
        """Let time pass, and servers do what is due then."""
        before = await self._one("KINDS")
        trio.lowlevel.current_clock().jump(seconds)
        await trio.testing.wait_all_tasks_blocked()
        after = await self._one("KINDS")
        if any(now < then for now, then in zip(after, before, strict=True)):
            self._falls()

    def _falls(self):
        self.falls.add(self.now_ms // 60_000)

    async def choose_site(self):
        site = self.random.choice(SITES)
        await self.check("SITE", site)

    async def act(self):
        """Let somebody come, go or be forgotten. No two do in the same millisecond: all times differ by 20 ms."""
        await self.pass_s(self.random.choice((0.02, 0.02, 1, 20)))
        user, what = self.random.choice(USERS), self.random.random()
        url, kind = self.random.choice(URLS), KINDS[USERS.index(user) % len(KINDS)]
        if what < 0.7:
            await self.check("HIT", user, url, b"", kind)
            return
        self._falls()
        if what < 0.8:
            await self.check("LEAVE", user)
        elif what < 0.85:
            await self.check("FORGET", user, b"nobody", self.random.choice(USERS))
        elif what < 0.9:
            users = self.random.sample(USERS, 4)
            hits = [[each, url, self.now_ms - 9 + nth] for nth, each in enumerate(users)]
            await self.check("hits", *hits, [b"", b"/a"], hits[0])
        else:
            seen_ms = self.now_ms - self.random.choice((15, 50_011, 400_013, -3_000))
            await self.check("HIT", user, url, seen_ms, self.random.choice(KINDS))

    async def look(self):
        """Ask everything."""
        url, limit = self.random.choice((*URLS, b"/none")), self.random.choice((3, 30))
        await self.check("COUNT")
        await self.check("COUNT", url)
        await self.check("COUNT", b"", self.random.choice((1, 60, WINDOW_S)))
        await self.check("DBSIZE")
        await self.check("COUNTS", *URLS, b"/none")
        await self.check("KINDS")
        await self.check("KINDS", url)
        await self.check("SEEN", *USERS, b"nobody")
        await self.check("LAST", *USERS, b"nobody")
        await self.check("SECTION", self.random.choice((b"", b"/c", b"/none")))
        await self.check("TOP", limit, self.random.choice((b"", b"/c")))
        await self.check("SITES")
        await self.list("PAGE", url, limit)
        await self.list("RECENT", limit)
        await self.list("USERS", self.random.choice((b"", b"user-1")), limit)
        await self.check("PAGE", url, 1_001)
        await self.check("LAST", b"")
        await self.check("HISTORY", b"x")
        await self.pass_s(0.02)
        await self.check("MULTI")
        for question in (("HIT", USERS[0], url), ("COUNT",), ("PAGE", url, 0), ("SITES",), ("COUNT", b"", b"x")):
            await self.check(*question)
        merged, one = await self.both("EXEC")
        assert merged == one
        for since_ms in (b"", self.now_ms - 90_000):
            merged, one = await self.both("PEAK", since_ms)
            assert merged == one if self._n == 1 else merged[0] == b"ERR"
        for step_s in (60, 600, 3_600):
            await self.history(step_s)

    async def list(self, verb, *args):
        """All pages of a list, one after the other, are what one server lists."""
        cursors = [b"", b""]
        while cursors != [None, None]:
            merged, one = await self._merged(verb, *args, cursors[0]), await self._one(verb, *args, cursors[1])
            assert merged[:-1] == one[:-1]
            cursors = [merged[-1], one[-1]]
            assert None not in cursors or cursors == [None, None]
        self.asked.add(verb)

    async def history(self, step_s):
        """The steps are the same, their hits and visitors too; of people there were so many, or a little less.

        Exactly so many, in a minute in which nobody went.
        """
        merged, one = await self.both("HISTORY", START_MS // 3_600_000 * 3_600_000, b"", step_s)
        assert [row[0] for row in merged] == [row[0] for row in one]
        for ours, theirs in zip(merged, one, strict=True):
            assert ours[5] == theirs[5]
            assert ours[6] == theirs[6] or step_s == 3_600  # visitors of an hour are estimated
            if step_s == 60 and ours[0] // 60_000 not in self.falls:
                assert ours[1:5] == theirs[1:5]
            assert all(mine >= true for mine, true in zip(ours[1:5], theirs[1:5], strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_every_answer_is_that_of_one_server(n, tmp_path, monkeypatch):
    async def compare():
        async with beside(n, tmp_path, monkeypatch) as opened:
            compared = Compared(*(each() for each in opened), n)
            for _ in range(8):
                await compared.choose_site()
                for _ in range(compared.random.randint(1, 12)):
                    await compared.act()
                await compared.look()
        assert compared.asked >= set(merging.VERBS)

    run(compare)
