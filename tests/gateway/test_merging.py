"""Random hits over some partitions: every answer is that of one index with all users."""

import random
from dataclasses import replace
from zlib import crc32

import msgpack
import pytest

from online.core.merge import Answers, Listed
from online.core.reference import ReferenceIndex
from online.core.wire import Packed
from online.errors import CommandError, OnlineError, PartialError, RangeError
from online.gateway import merging
from online.gateway.asking import Asking, Reply
from online.gateway.lines import AwayError
from online.limits import Limits
from online.partitions import Partition, PartitionMap
from online_client.cursors import Place, place_of, text_of

NOW_MS = 1_700_000_000_000
USERS = [b"user-%d" % number for number in range(40)]
URLS = [b"/%s" % name for name in (b"a", b"b", b"c/1", b"c/2", b"d", b"e", b"f", b"g", b"h", b"i", b"j", b"k")]
LIMITS = Limits(max_memory=2**30)


class Divided:
    """Indexes of partitions, which stand in for lines to their servers, and an index of all users."""

    def __init__(self, n: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.limits = LIMITS
        self.owners = PartitionMap(
            1,
            tuple(Partition(number, ("online://127.0.0.1",)) for number in range(n)),
            tuple(slot * n // 16_384 for slot in range(16_384)),
        )
        self.numbers = list(range(n))
        self.indexes = [ReferenceIndex() for _ in range(n)]
        self.one = ReferenceIndex()
        self.now_ms = NOW_MS
        self.ahead_ms = [0] * n  # the clocks of partitions, before that of the gateway
        self.histories: dict[bytes, list[list[list[int]]]] = {b"default": [[]] * n}  # rows, by site and partition
        self.lacks_default = False
        self.times = [0] * n  # and of their indexes
        self.latest_s = 0
        self.away: set[int] = set()

    def lines(self, site):
        return [Answering(self, place, site) for place in self.numbers]

    def next_msgid(self):
        return 1

    def second(self):
        return max(self.now_ms // 1000, self.latest_s)

    def has_come(self, second):
        self.latest_s = max(self.latest_s, second)
        return True

    def answer(self, verb, *args, site=b"default"):
        question = merging.answer(self.owners, site, verb, list(args), self.limits, self.now_ms)
        reply = Asking(self, site, question, writes=verb in merging.WRITES).begin().result(0)
        return msgpack.unpackb(reply, raw=True) if isinstance(reply, Packed) else reply

    def act(self) -> None:
        """Let somebody come or go. No two do in the same millisecond."""
        self.now_ms += self.random.choice((1, 1, 7, 1_000, 60_000))
        user = self.random.choice(USERS)
        if self.random.random() < 0.1:
            verb, args = "LEAVE", [user, b"%d" % self.now_ms]
        else:
            kind = self.random.choice((b"member", b"member", b"guest", b"hidden", b"bot"))
            url = self.random.choice(URLS[: self.random.randint(1, len(URLS))])
            verb, args = "HIT", [user, url, b"%d" % self.now_ms, kind]
        assert self.answer(verb, *args) == "OK"
        answer_of(self.one, verb, args, self.one_ms())

    def one_ms(self) -> int:
        """The time of one index: that of the partition whose clock is ahead of all others."""
        return self.now_ms + max(self.ahead_ms)

    def act_together(self) -> None:
        """Let a batch come, with something in it that is no hit."""
        self.now_ms += 1_000
        hits = []
        for nth in range(self.random.randint(0, 9)):
            user, seen_ms = self.random.choice((*USERS, 5)), self.now_ms - 999 + nth
            hits.append(self.random.choice(([user, b"/a", seen_ms], [user, b"/b", seen_ms, b"guest"], [user, b""], 7)))
        given = self.answer("hits", b"".join(map(msgpack.packb, hits)))
        assert given == answer_of(self.one, "hits", hits, self.one_ms())

    def check(self, verb, *args):
        assert plain(self.answer(verb, *args)) == plain(answer_of(self.one, verb, list(args), self.one_ms()))

    def check_list(self, verb, *leading, limit):
        """All pages of a list, one after the other, are what one index lists."""
        mine, theirs = b"", b""
        while mine is not None:
            given, wanted = (
                self.answer(verb, *leading, b"%d" % limit, mine),
                answer_of(self.one, verb, [*leading, b"%d" % limit, theirs], self.one_ms()),
            )
            assert plain(given[:-1]) == plain(wanted[:-1])
            assert (given[-1] is None) == (wanted[-1] is None)
            mine, theirs = given[-1], plain(wanted[-1])


class Answering:
    """The line to a partition, which answers at once."""

    def __init__(self, site, place, name):
        self.site, self.place, self.name = site, place, name

    def ask(self, msgid, body, asker, *, is_shared):
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(body)
        verb, args = unpacker
        if self.place in self.site.away or (self.site.lacks_default and self.name == b"default"):
            asker.failed(self.place, AwayError("refused"))
            return
        if verb == b"HISTORY":
            rows = self.site.histories[self.name][self.place]
            asker.answered(self.place, msgpack.packb(rows), 0, 0)
            return
        index = self.site.indexes[self.place]
        now_ms = max(self.site.now_ms + self.site.ahead_ms[self.place], self.site.second() * 1000)
        now_ms = self.site.times[self.place] = max(now_ms, self.site.times[self.place])  # which never goes back
        try:
            found = answer_of(index, verb.decode(), args, now_ms)
        except OnlineError as error:
            asker.failed(self.place, error)
        else:
            asker.answered(self.place, msgpack.packb(plain(found)), now_ms // 1000, now_ms // 1000)


def answer_of(index, verb, args, now_ms):
    match verb:
        case "HIT":
            seen_ms = int(args[2]) if args[2] else None
            index.hit(args[0], args[1], seen_ms=seen_ms, kind=args[3].decode(), now_ms=now_ms)
            return "OK"
        case "LEAVE":
            index.leave(args[0], seen_ms=int(args[1]), now_ms=now_ms)
            return "OK"
        case "hits":
            return batch(index, args, now_ms)
        case "COUNT":
            return index.count(args[0] or None, int(args[1]) if len(args) > 1 else None, now_ms=now_ms)
        case "COUNTS":
            return index.counts(args, now_ms=now_ms)
        case "KINDS":
            return index.kinds(args[0] if args else None, now_ms=now_ms)
        case "SEEN":
            return index.seen(args, now_ms=now_ms)
        case "SECTION":
            return index.section(args[0], now_ms=now_ms)
        case "PAGES":
            return [*index.section(args[0], now_ms=now_ms), *urls_of(index, *args, now_ms)]
        case "TOP":
            return index.top(int(args[0]), args[1], now_ms=now_ms)
        case "RECENT":
            return index.recent(int(args[0]), text(args[1:]), now_ms=now_ms)
        case _:
            return getattr(index, verb.lower())(args[0], int(args[1]), text(args[2:]), now_ms=now_ms)


def urls_of(index, prefix, limit, after, now_ms):
    """Return urls of a section in order, and the last one if there are more."""
    found = (url for url in URLS if url.startswith(prefix) and url > after)
    urls, most = sorted(url for url in found if sum(index.kinds(url, now_ms=now_ms))), int(limit)
    return urls[:most], urls[most - 1] if len(urls) > most else None


def batch(index, hits, now_ms):
    """Return what a server answers to a batch."""
    became, error = [0, 0, 0], None
    for nth, hit in enumerate(hits, 1):
        try:
            if not isinstance(hit, list):
                raise RangeError("no hit")
            user, url, seen_ms, kind = (*hit, now_ms, b"member")[:4] if len(hit) < 3 else (*hit, b"member")[:4]
            name = b"%d" % user if isinstance(user, int) else user
            is_new = index.hit(name, url, seen_ms=seen_ms, kind=kind.decode(), now_ms=now_ms)
            became[0 if is_new else 1] += 1
        except RangeError as refusal:
            became[2] += 1
            error = error or [b"RANGE", b"hit %d of the batch: %b" % (nth, str(refusal).encode())]
    return [*became, error]


def text(cursor):
    return (cursor[0].decode() if cursor else "") or None


def plain(value):
    """Lists, text and numbers, as they come out of a packer."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_every_answer_is_that_of_one_index(n, seed):
    site = Divided(n, seed)
    site.ahead_ms = [site.random.choice((0, 0, 300, 700, 2_600)) for _ in range(n)]
    for _ in range(25):
        for _ in range(site.random.randint(1, 12)):
            site.act()
        site.act_together()
        url, limit = site.random.choice(URLS), site.random.choice((1, 2, 5, 30))
        site.check("COUNT", b"")
        site.check("COUNT", url)
        site.check("COUNT", b"", b"%d" % site.random.choice((1, 60, 1_800)))
        site.check("COUNTS", *URLS, b"/none")
        site.check("KINDS")
        site.check("KINDS", url)
        site.check("SEEN", *USERS)
        site.check("TOP", b"%d" % limit, site.random.choice((b"", b"/c", b"/none")))
        for max_limit in (1, 3, 1_000):
            site.limits = replace(LIMITS, max_limit=max_limit)
            site.check("SECTION", site.random.choice((b"", b"/", b"/c", b"/none")))
        site.check("PAGE", url, b"0", b"")
        site.check_list("PAGE", url, limit=limit)
        site.check_list("RECENT", limit=limit)
        site.check_list("USERS", site.random.choice((b"", b"user-1")), limit=limit)


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_users_of_one_time_are_listed_once_each(limit):
    site = Divided(3, 0)
    for user in USERS:
        site.answer("HIT", user, b"/a", b"", b"member")
    listed, cursor = [], b""
    while cursor is not None:
        found, cursor = site.answer("RECENT", b"%d" % limit, cursor)
        listed += [row[0] for row in found]
    assert sorted(listed) == sorted(USERS)


def test_who_does_not_move_is_listed_once_while_others_do():
    site = Divided(3, 0)
    for user in USERS:
        site.now_ms += 1
        site.answer("HIT", user, b"/a", b"", b"member")
    staying = USERS[:20]
    listed, cursor = [], b""
    while cursor is not None:
        found, cursor = site.answer("RECENT", b"3", cursor)
        listed += [row[0] for row in found]
        site.now_ms += 1
        site.answer("HIT", site.random.choice(USERS[20:]), b"/b", b"", b"member")
    assert [user for user in listed if user in staying] == staying[::-1]


def test_a_reply_tells_who_waits_for_it_and_waits_for_nobody():
    given, refused, told = Reply(), Reply(), []
    given.add_done_callback(told.append)
    with pytest.raises(TimeoutError):
        given.result()
    given.set_result(7)
    refused.set_exception(CommandError("no"))
    refused.add_done_callback(told.append)
    assert told == [given, refused]
    assert (given.done(), given.result(), given.exception()) == (True, 7, None)
    with pytest.raises(CommandError, match="no"):
        refused.result()
    assert [repr(each) for each in (Reply(), given)] == ["<Reply: none yet>", "<Reply: 7>"]


def test_what_is_missing_is_said():
    site = Divided(3, 0)
    mine = next(user for user in USERS if crc32(user) % 16_384 * 3 // 16_384 == 0)
    theirs = next(user for user in USERS if crc32(user) % 16_384 * 3 // 16_384 == 2)
    site.away = {1, 2}
    for verb, args in (("COUNT", [b""]), ("PAGE", [b"/a", b"5", b""]), ("TOP", [b"3", b""]), ("SEEN", [theirs])):
        with pytest.raises(PartialError, match=r"no answer from partitions? .*2 of 3: refused"):
            site.answer(verb, *args)
    assert site.answer("HIT", mine, b"/a", b"", b"member") == "OK"
    assert site.answer("SEEN", mine) == [[b"/a", NOW_MS]]


@pytest.mark.parametrize("verb", sorted(merging.REFUSED))
def test_what_cannot_be_merged_is_refused(verb):
    with pytest.raises(CommandError, match=f"a gateway cannot answer {verb}"):
        Divided(2, 0).answer(verb, b"/a")


def test_the_peak_of_several_partitions_is_not_known():
    with pytest.raises(CommandError, match="Ask HISTORY from_ms to_ms step_s: no step had more people"):
        Divided(2, 0).answer("PEAK")


def test_a_section_of_too_many_pages_is_refused():
    site = Divided(3, 0)
    for user, url in zip(USERS, URLS, strict=False):
        site.answer("HIT", user, url, b"", b"member")
    site.limits = replace(LIMITS, max_scan=11, max_limit=2)
    with pytest.raises(RangeError, match="more than 11 pages"):
        site.answer("SECTION", b"/")
    assert site.answer("SECTION", b"/c/") == [2, 2]


def test_a_cursor_is_good_for_its_question():
    site = Divided(2, 0)
    for user in USERS:
        site.answer("HIT", user, b"/a", b"", b"member")
    *_, cursor = site.answer("PAGE", b"/a", b"2", b"")
    changed = [b" " + cursor, b"+" + cursor, cursor + b"A", cursor + b"====", b"%b-%b" % (cursor[:9], cursor[9:])]
    for wrong in ((b"/b", b"2", cursor), *((b"/a", b"2", each) for each in (b"nonsense", cursor[:-4], *changed))):
        with pytest.raises(RangeError, match="cursor"):
            site.answer("PAGE", *wrong)
    for verb, *args in (("PAGE", b"/a", b"9", cursor), ("USERS", b"/a", b"9", cursor), ("RECENT", b"9", cursor)):
        with pytest.raises(RangeError, match="cursor"):
            site.answer(verb, *args, site=b"shop" if verb == "PAGE" else b"default")
    assert len(site.answer("PAGE", b"/a", b"50", cursor)[2]) == len(USERS) - 2


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
    with pytest.raises(ValueError, match=r"^$"):
        place_of(text_of(Place(*made), question), question, int)
    assert place_of(text_of(Place(-1, [b"sum"], {0: b"", 1: None}), question), question, int).last == -1


def test_answers_are_found_however_they_are_cut():
    packed = [
        msgpack.packb([1, 1, None, {"a": [1, [2, {"b": 3}]]}]),
        msgpack.packb([2, "state", [{"c": 4}]]),
        msgpack.packb([1, 2**32 - 1, ["ERR", "no"], None]),
        msgpack.packb([1, None, None, b"x" * 300]),
    ]
    data = b"".join(packed)
    wanted = [
        (1, None, msgpack.packb({"a": [1, [2, {"b": 3}]]})),
        (2**32 - 1, msgpack.packb(["ERR", "no"]), b"\xc0"),
        (None, None, msgpack.packb(b"x" * 300)),
    ]
    for size in (1, 2, 7, len(data)):
        answers = Answers()
        found = [each for at in range(0, len(data), size) for each in answers.take(data[at : at + size])]
        assert found == wanted


NO_ANSWERS = [
    b"-ERR full\r\n",
    b"\xc1",
    b"\x92\x01\x02",
    b"\x94\x00\x01\xc0\xc0",
    b"\x94\x01\xa1a\xc0\xc0",
    b"\x94\xa1a\x01\xc0\xc0",
    b"\x94\x90\x01\xc0\xc0",
    b"\x94\x01\x90\xc0\xc0",
    b"\x91" * 20,
]
NO_LISTS = [7, [], [[]], [1, 2, [[b"a", b"b", 1]]], ["a", 1, [], None], [[[[]]], None], [1, [], 7]]


@pytest.mark.parametrize("data", NO_ANSWERS, ids=repr)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(ValueError, match="answer"):
        Answers().take(data)


@pytest.mark.parametrize("value", NO_LISTS, ids=repr)
def test_what_is_no_list_is_refused(value):
    with pytest.raises(ValueError, match="no list"):
        Listed(1).add(msgpack.packb(value), b"")


def test_a_list_that_breaks_off_is_refused():
    whole = msgpack.packb([1, 2, [[b"ada", 5, b"member"], [b"theo", 4, b"guest"]], None])
    for size in range(len(whole)):
        with pytest.raises(ValueError, match="no list"):
            Listed(1).add(whole[:size], b"")
    listed = Listed(1)
    listed.add(whole, b"here")
    assert (len(listed), listed.counts, listed.cursor) == (2, [1, 2], None)
    assert (listed.user(1), listed.key(1), listed.begin(1)) == (b"theo", -4, b"here")
    with pytest.raises(IndexError):
        listed.key(2)


def test_history_adds_up_steps_that_all_know():
    site = Divided(3, 0)
    assert site.answer("HISTORY") == []
    one = [[60_000, 5, 3, 1, 1, 20, 6], [120_000, 7, 7, 0, 0, 9, 7]]
    two = [[120_000, 1, 0, 1, 0, 2, 1], [180_000, 1, 0, 1, 0, 2, 1]]
    site.histories = {b"default": [[], [], []], b"shop": [one, two, []]}
    assert site.answer("HISTORY", b"0", b"", b"60", site=b"shop") == []
    # Where a server ran, but nobody had come to the site, there is a row of the site that is always there.
    site.histories[b"default"] = [[], [[60_000, *[9] * 6]], [[at_ms, *[9] * 6] for at_ms in (0, 60_000, 120_000)]]
    summed = [[60_000, 5, 3, 1, 1, 20, 6], [120_000, 8, 7, 1, 0, 11, 8]]
    assert site.answer("HISTORY", b"0", b"", b"60", site=b"shop") == summed
    two[0][6] = None
    assert site.answer("HISTORY", b"0", b"", b"60", site=b"shop") == [summed[0], [*summed[1][:6], None]]
    new = Partition(2, ("online://127.0.0.1",), began_ms=120_000)
    site.owners = replace(site.owners, partitions=(*site.owners.partitions[:2], new))
    site.histories[b"default"][2] = []  # a new partition
    assert site.answer("HISTORY", b"0", b"", b"60", site=b"shop") == summed[:1]
    assert site.answer("HISTORY", b"0", b"120000", site=b"shop") == summed[:1]
    assert site.answer("HISTORY", b"0", b"", b"120", site=b"shop") == []  # it might have been there for a part
    site.lacks_default = True  # as the token is not for it
    assert site.answer("HISTORY", b"0", b"", b"60", site=b"shop") == []
