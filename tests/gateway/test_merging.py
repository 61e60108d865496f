"""Random hits over some partitions: every answer is that of one index with all users."""

import random
from zlib import crc32

import pytest
import trio

from online.core.reference import ReferenceIndex
from online.errors import CommandError, RangeError
from online.gateway import merging
from online.gateway.cursors import Place, place_of, text_of
from online.partitions import Partition, PartitionMap

NOW_MS = 1_700_000_000_000
USERS = [b"user-%d" % number for number in range(40)]
URLS = [b"/%s" % name for name in (b"a", b"b", b"c/1", b"c/2", b"d", b"e", b"f", b"g", b"h", b"i", b"j", b"k")]
MAX_LIMIT = 1_000


class Divided:
    """Indexes of partitions, and one of all users."""

    def __init__(self, n: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.owners = PartitionMap(
            1,
            tuple(Partition(number, ("online://127.0.0.1",)) for number in range(n)),
            tuple(slot * n // 16_384 for slot in range(16_384)),
        )
        self.indexes = [ReferenceIndex() for _ in range(n)]
        self.one = ReferenceIndex()
        self.now_ms = NOW_MS
        self.away: set[int] = set()

    async def ask(self, place, verb, args):
        await trio.lowlevel.checkpoint()
        if place in self.away:
            raise merging.AwayError("refused")
        return answer_of(self.indexes[place], verb, list(args), self.now_ms)

    async def answer(self, verb, *args):
        return await merging.answer(self.owners, self.ask, verb, list(args), MAX_LIMIT)

    async def act(self) -> None:
        """Let somebody come or go. No two do in the same millisecond."""
        self.now_ms += self.random.choice((1, 1, 7, 1_000, 60_000))
        user = self.random.choice(USERS)
        if self.random.random() < 0.1:
            verb, args = "LEAVE", [user]
        else:
            kind = self.random.choice((b"member", b"member", b"guest", b"hidden", b"bot"))
            verb, args = "HIT", [user, self.random.choice(URLS[: self.random.randint(1, len(URLS))]), b"", kind]
        assert await self.answer(verb, *args) == "OK"
        answer_of(self.one, verb, args, self.now_ms)

    async def check(self, verb, *args):
        assert plain(await self.answer(verb, *args)) == plain(answer_of(self.one, verb, list(args), self.now_ms))

    async def check_list(self, verb, *leading, limit):
        """All pages of a list, one after the other, are what one index lists."""
        mine, theirs = b"", b""
        while mine is not None:
            given, wanted = (
                await self.answer(verb, *leading, b"%d" % limit, mine),
                answer_of(self.one, verb, [*leading, b"%d" % limit, theirs], self.now_ms),
            )
            assert plain(given[:-1]) == plain(wanted[:-1])
            assert (given[-1] is None) == (wanted[-1] is None)
            mine, theirs = given[-1], wanted[-1]


def answer_of(index, verb, args, now_ms):
    match verb:
        case "HIT":
            index.hit(args[0], args[1], kind=args[3].decode(), now_ms=now_ms)
            return "OK"
        case "LEAVE":
            index.leave(args[0], now_ms=now_ms)
            return "OK"
        case "COUNT":
            return index.count(args[0] or None, int(args[1]) if len(args) > 1 else None, now_ms=now_ms)
        case "COUNTS":
            return index.counts(args, now_ms=now_ms)
        case "KINDS":
            return index.kinds(args[0] if args else None, now_ms=now_ms)
        case "SEEN":
            return index.seen(args, now_ms=now_ms)
        case "TOP":
            return index.top(int(args[0]), args[1], now_ms=now_ms)
        case "RECENT":
            return rows(index.recent(int(args[0]), text(args[1]), now_ms=now_ms))
        case _:
            return rows(getattr(index, verb.lower())(args[0], int(args[1]), text(args[2]), now_ms=now_ms))


def text(cursor):
    return (cursor.decode() if isinstance(cursor, bytes) else cursor) or None


def rows(answer):
    return [[list(row) for row in each] if isinstance(each, list) else each for each in answer]


def plain(value):
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_every_answer_is_that_of_one_index(n, seed):
    async def run():
        site = Divided(n, seed)
        for _ in range(25):
            for _ in range(site.random.randint(1, 12)):
                await site.act()
            url, limit = site.random.choice(URLS), site.random.choice((1, 2, 5, 30))
            await site.check("COUNT", b"")
            await site.check("COUNT", url)
            await site.check("COUNT", b"", b"%d" % site.random.choice((1, 60, 1_800)))
            await site.check("COUNTS", *URLS, b"/none")
            await site.check("KINDS")
            await site.check("KINDS", url)
            await site.check("SEEN", *site.random.choices(USERS, k=9))
            await site.check("TOP", b"%d" % limit, site.random.choice((b"", b"/c", b"/none")))
            await site.check("PAGE", url, b"0", b"")
            await site.check_list("PAGE", url, limit=limit)
            await site.check_list("RECENT", limit=limit)
            await site.check_list("USERS", site.random.choice((b"", b"user-1")), limit=limit)

    trio.run(run)


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_users_of_one_time_are_listed_once_each(limit):
    async def run():
        site = Divided(3, 0)
        for user in USERS:
            await site.answer("HIT", user, b"/a", b"", b"member")
        listed, cursor = [], b""
        while cursor is not None:
            found, cursor = await site.answer("RECENT", b"%d" % limit, cursor)
            listed += [row[0] for row in found]
        assert sorted(listed) == sorted(USERS)

    trio.run(run)


def test_who_does_not_move_is_listed_once_while_others_do():
    async def run():
        site = Divided(3, 0)
        for user in USERS:
            site.now_ms += 1
            await site.answer("HIT", user, b"/a", b"", b"member")
        staying = USERS[:20]
        listed, cursor = [], b""
        while cursor is not None:
            found, cursor = await site.answer("RECENT", b"3", cursor)
            listed += [row[0] for row in found]
            site.now_ms += 1
            await site.answer("HIT", site.random.choice(USERS[20:]), b"/b", b"", b"member")
        assert [user for user in listed if user in staying] == staying[::-1]

    trio.run(run)


def test_what_is_missing_is_said():
    async def run():
        site = Divided(3, 0)
        mine = next(user for user in USERS if crc32(user) % 16_384 * 3 // 16_384 == 0)
        theirs = next(user for user in USERS if crc32(user) % 16_384 * 3 // 16_384 == 2)
        site.away = {1, 2}
        for verb, args in (("COUNT", [b""]), ("PAGE", [b"/a", b"5", b""]), ("TOP", [b"3", b""]), ("SEEN", [theirs])):
            with pytest.raises(merging.PartialError, match=r"no answer from partitions? .*2 of 3: refused"):
                await site.answer(verb, *args)
        assert await site.answer("HIT", mine, b"/a", b"", b"member") == "OK"
        assert await site.answer("SEEN", mine) == [(b"/a", NOW_MS)]

    trio.run(run)


@pytest.mark.parametrize("verb", sorted(merging.REFUSED))
def test_what_cannot_be_merged_is_refused(verb):
    async def run():
        with pytest.raises(CommandError, match=f"a gateway cannot answer {verb}"):
            await Divided(2, 0).answer(verb, b"/a")

    trio.run(run)


def test_a_cursor_is_good_for_its_question():
    async def run():
        site = Divided(2, 0)
        for user in USERS:
            await site.answer("HIT", user, b"/a", b"", b"member")
        *_, cursor = await site.answer("PAGE", b"/a", b"2", b"")
        for wrong in ((b"/b", b"2", cursor), (b"/a", b"2", b"nonsense"), (b"/a", b"2", cursor[:-4])):
            with pytest.raises(RangeError, match="cursor"):
                await site.answer("PAGE", *wrong)

    trio.run(run)


@pytest.mark.parametrize(
    "made",
    [
        (None, [], {}),
        ("a", [], {}),
        (b"a", [], {}),
        (1.5, [], {}),
        (-1, None, {}),
        (-1, [7], {}),
        (-1, [], [0]),
        (-1, [], {"a": b""}),
        (-1, [], {0: 7}),
    ],
    ids=str,
)
def test_a_cursor_that_somebody_made_up_is_refused(made):
    question = b"PAGE\0/a"
    with pytest.raises(RangeError, match="cursor"):
        place_of(text_of(Place(*made), question), question)
    assert place_of(text_of(Place(-1, [b"sum"], {0: b"", 1: None}), question), question).last == -1
