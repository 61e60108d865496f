"""A gateway answers as a server: wrong arguments of every verb, limits of a whole question, cursors."""

import random

import msgpack
import pytest
from tests.gateway.beside import Asked, AskedInResp, beside
from tests.serving import run

from online.core import verbs
from online.gateway import merging

USERS = [b"user-%d" % number for number in range(30)]

#: Right arguments of verbs, each of which is replaced by wrong ones.
RIGHT = {
    "HIT": [b"ada", b"/a", b"", b"member"],
    "LEAVE": [b"ada", b""],
    "COUNT": [b"", b"60"],
    "COUNTS": [b"/a", b"/b", b"/a"],
    "KINDS": [b"/a"],
    "PAGE": [b"/a", b"50", b""],
    "RECENT": [b"50", b""],
    "USERS": [b"user", b"50", b""],
    "SEEN": [b"user-1", b"user-2", b"user-3", b"user-4"],
    "LAST": [b"user-1", b"user-2", b"user-3", b"user-4"],
    "FORGET": [b"nobody", b"noone", b"none"],
    "SECTION": [b"/"],
    "TOP": [b"5", b"/"],
    "HISTORY": [b"1700000000000", b"1700000060000", b"60"],
    "DBSIZE": [],
    "SITES": [],
    "SITE": [b"default"],
    "TIME": [b"1"],
    "SELECT": [b"0"],
    "ECHO": [b"x"],
    "SUBSCRIBE": [b"page:", b"none"],
}  # fmt: skip

#: Verbs of which a gateway answers something else, and why.
OTHERS = {"PEAK": "is refused", "PAGES": "is refused", "hits": "is a batch, see below"}

TEXTS = [
    b"", b"x", b"0", b"-1", b"1001", b"00000000000000000005", b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775808", b"18446744073709551616", 65 * b"9", b" 5", b"+5", b"5 ", b"1e3", b"0x10", b"1_000",
    b"\xff\xfe", b'"', b"\r\n", b"%00", 257 * b"u", 2_049 * b"/", b"1699999999", b"17000000000000000", b"\xd9\xa5",
]  # fmt: skip

#: What RESP cannot say.
PACKED = [
    True, False, None, 1.5, [], [b"x"], {}, {b"x": 1}, msgpack.ExtType(1, b"x"), 0, -1, 7, 1_001, 2**63, 2**64 - 1,
]  # fmt: skip


def wrong_questions(values):
    """Each argument of each verb replaced by each value, and questions with too few and too many of them."""
    for verb, right in RIGHT.items():
        for n in range(len(right)):
            yield verb, *right[:n]
            for value in values:
                yield verb, *right[:n], value, *right[n + 1 :]
        yield verb, *right, b"", b"", b"", b""
        yield verb, *([b""] * len(right))
        for one in values:
            yield verb, *([one] * len(right))


def test_no_verb_is_left_out():
    assert RIGHT.keys() | OTHERS.keys() >= set(merging.VERBS) | set(merging.REFUSED)
    assert RIGHT.keys() <= {usage.split()[0] for usage, *_ in verbs.rows()}


@pytest.mark.parametrize(("kind", "values"), [(Asked, TEXTS + PACKED), (AskedInResp, TEXTS)], ids=["packed", "resp"])
def test_wrong_arguments_are_answered_as_by_a_server(kind, values, tmp_path, monkeypatch):
    async def compare():
        async with beside(3, tmp_path, monkeypatch) as opened:
            merged, one = (each(kind) for each in opened)
            differing = []
            for question in wrong_questions(values):
                given, wanted = await merged(*question), await one(*question)
                if given != wanted and not (question[0] == "TIME" and isinstance(wanted, list)):
                    differing.append((question, given, wanted))
            assert differing == []

    run(compare)


def frame(verb, hits, msgid=1):
    return msgpack.packb([0, msgid, verb, hits])


async def fill(asked):
    """Let users come one after the other. They come to all sites that are named, at the same time."""
    for site in (b"gb", b"ga"):
        await asked("SITE", site)
        hits = [[user, b"/%d" % (nth % 3), 1_700_000_000_000 - nth] for nth, user in enumerate(USERS)]
        assert await asked.send(frame("hits", hits)) == [len(hits), 0, 0, None]


async def both_filled(opened):
    merged, one = [each() for each in opened]
    await fill(merged)
    await fill(one)
    return merged, one


@pytest.mark.parametrize("verb", ["SEEN", "LAST", "COUNTS", "FORGET"])
def test_a_question_of_too_many_names_is_refused(verb, tmp_path, monkeypatch):
    async def compare():
        async with beside(3, tmp_path, monkeypatch, max_limit=30) as opened:
            merged, one = await both_filled(opened)
            assert await merged(verb, *USERS) == await one(verb, *USERS)
            for names in ([*USERS, b"one more"], [*USERS[:9], b"", 3_000 * b"u"], [3_000 * b"u", b""]):
                given, wanted = await merged(verb, *names), await one(verb, *names)
                assert given == wanted
                assert given[0] == b"RANGE"

    run(compare)


def test_a_list_has_as_many_as_a_server_gives_where_no_limit_is_given(tmp_path, monkeypatch):
    async def compare():
        async with beside(3, tmp_path, monkeypatch, max_limit=5) as opened:
            merged, one = await both_filled(opened)
            for verb, *args in (("PAGE", b"/0"), ("RECENT",), ("USERS",), ("TOP",)):
                given, wanted = await merged(verb, *args), await one(verb, *args)
                rows = given if verb == "TOP" else given[-2]
                assert rows == (wanted if verb == "TOP" else wanted[-2])
                assert len(rows) == (3 if verb == "TOP" else 5)

    run(compare)


def test_a_frame_that_a_server_takes_is_taken_by_a_gateway(tmp_path, monkeypatch):
    async def compare():
        async with beside(2, tmp_path, monkeypatch, max_frame=4_096) as opened:
            merged, one = [each() for each in opened]
            hits = [[b"ada", b"/%04d" % nth + 250 * b"x"] for nth in range(15)]
            while len(frame("hits", hits)) < 4_096:
                hits[-1][1] += b"x"
            assert len(frame("hits", hits)) == 4_096
            for asked in (merged, one):
                assert await asked.send(frame("hits", hits)) == [15, 0, 0, None]
            urls = [1_000 * b"x" + b"%d" % nth for nth in range(4)]
            urls[0] += (4_096 - len(frame("COUNTS", urls))) * b"x"
            assert len(frame("COUNTS", urls)) == 4_096
            for asked in (merged, one):
                assert await asked.send(frame("COUNTS", urls)) == [0, 0, 0, 0]

    run(compare)


def test_top_counts_pages_whose_urls_do_not_fit_into_a_frame(tmp_path, monkeypatch):
    async def compare():
        async with beside(2, tmp_path, monkeypatch, max_frame=4_096) as opened:
            merged, one = [each() for each in opened]
            for nth in range(40):
                for asked in (merged, one):
                    await asked("HIT", b"user-%d" % nth, 2_000 * b"x" + b"%02d" % (nth % 12))
            assert await merged("TOP", 5) == await one("TOP", 5)

    run(compare)


def test_a_cursor_is_good_for_one_verb_url_and_site(tmp_path, monkeypatch):
    async def compare():
        async with beside(3, tmp_path, monkeypatch) as opened:
            for asked in await both_filled(opened):
                lists = [("PAGE", b"/1"), ("PAGE", b"/2"), ("RECENT",), ("USERS", b""), ("USERS", b"user")]
                given = {}
                for site in (b"ga", b"gb"):
                    await asked("SITE", site)
                    for question in lists:
                        given[site, question] = (await asked(*question, 3))[-1]
                for site, question in given:
                    await asked("SITE", site)
                    for of, cursor in given.items():
                        reply = await asked(*question, 50, cursor)
                        assert (reply[0] == b"RANGE") == (of != (site, question))
                    for wrong in (b" %b", b"+%b", b"%b ", b"%bA", b"%b=", b"%b====", b"%b\n"):
                        assert (await asked(*question, 50, wrong % given[site, question]))[0] == b"RANGE"

    run(compare)


SITES = [b"\xff\xfe", b"/", b"a/b", b"..", b"?", b"#x", b"@", b":", b",", b"%2F", b"\0", b"\r\n", b" ", 64 * b"\xc3"]


def test_a_site_has_a_name_of_any_bytes(tmp_path, monkeypatch):
    async def compare():
        async with beside(2, tmp_path, monkeypatch) as opened:
            merged, one = [each() for each in opened]
            for site in SITES:
                for question in (("SITE", site), ("COUNT",), ("HIT", b"ada", b"/a"), ("COUNT",), ("SEEN", b"ada")):
                    assert await merged(*question) == await one(*question)
            assert await merged("SITES") == await one("SITES")

    run(compare)


def test_subscribing_in_a_transaction_spoils_it(tmp_path, monkeypatch):
    async def compare():
        async with beside(1, tmp_path, monkeypatch) as opened:
            for each in opened:
                asked = each(AskedInResp)
                for verb, *args in (("SUBSCRIBE", b"count"), ("UNSUBSCRIBE",)):
                    assert await asked("MULTI") == "OK"
                    assert str(await asked(verb, *args)) == f"ERR {verb} inside MULTI is not allowed"
                    assert str(await asked("EXEC")).startswith("EXECABORT")

    run(compare)


@pytest.mark.parametrize("kind", [Asked, AskedInResp])
def test_odd_questions_are_answered_as_by_a_server(kind, tmp_path, monkeypatch):
    async def compare():
        chosen = random.Random(7)
        odd = TEXTS + PACKED if kind is Asked else TEXTS
        asks = sorted(RIGHT.keys() - {"HIT", "LEAVE", "FORGET", "SUBSCRIBE", "TIME", "SITE"})
        async with beside(3, tmp_path, monkeypatch) as opened:
            await both_filled(opened)
            merged, one = [each(kind) for each in opened]
            differing = []
            for _ in range(1_000):
                verb = chosen.choice(asks)
                args = [each if chosen.random() < 0.6 else chosen.choice(odd) for each in RIGHT[verb]]
                args = args[: chosen.choice((None, None, 1, 2, 0))]
                question = [verb, *args]
                given, wanted = await merged(*question), await one(*question)
                if given != wanted:
                    differing.append((question, given, wanted))
            assert differing == []

    run(compare)
