"""Answers for pages: what is asked, what is remembered, and what happens while the server fails."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from online_client import AddressError, Kinds, Page, questions, verbs
from online_client import answers as memory
from online_client import presence as presences
from online_client.answers import FIRST_PAUSE_S, KNOWN_S, LONGEST_PAUSE_S, Answers
from online_client.presence import AsyncPresence, Presence, Reader

PATIENCE_S = 20.0
QUESTION = verbs.count()
OTHER = verbs.count("/forum/1")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make what asks, at times that the test sets: `ask.now_s`."""
    made: list[Presence] = []

    class Asking:
        now_s = 1_000.0

        def presence(self, url: str, **options: Any) -> Presence:
            made.append(Presence(url, **{"timeout": PATIENCE_S, **options}))
            return made[-1]

    asking = Asking()
    for module in (presences, memory, questions):
        monkeypatch.setattr(module, "monotonic", lambda: asking.now_s)
    yield asking
    for presence in made:
        presence.close()


def counting(scripts: Any) -> Any:
    """A server that answers each COUNT with one more."""
    counts = iter(range(1, 1_000))
    return scripts.answering({"count": lambda *_: next(counts)})


def refusing(code: str) -> Any:
    def script(talk: Any) -> None:
        while request := talk.request():
            talk.refuse(request[0], code, "it is so")

    return script


def page(*viewers: tuple[str, str]) -> list[Any]:
    return [9, len(viewers), [[user, 1_709_208_000_123, kind] for user, kind in viewers], None]


def test_it_answers(serve: Any, scripts: Any, ask: Any) -> None:
    presence = ask.presence(serve(scripts.answering({"count": 7, "page": page(("theo", "member"))})).url)
    assert presence.count() == presence.count("/a") == 7
    answer = presence.page("/a")
    assert isinstance(answer, Page)
    assert (answer.online, answer.here, [viewer.user for viewer in answer.users]) == (9, 1, ["theo"])


def test_members_are_found_among_guests(serve: Any, scripts: Any, ask: Any) -> None:
    viewers = [("theo", "member"), ("guest:1", "guest"), ("ada", "member"), ("kim", "member")]
    server = serve(scripts.answering({"page": lambda url, limit: page(*viewers[:limit])}))
    presence = ask.presence(server.url)
    assert [viewer.user for viewer in presence.users("/a", 2)] == ["theo", "ada"]
    assert [viewer.user for viewer in presence.users("/a", 2, guests=True)] == ["theo", "guest:1"]
    assert server.requests == [("page", [b"/a", 1_000]), ("page", [b"/a", 2])]


def test_of_many_guests_none_is_kept(serve: Any, scripts: Any, ask: Any) -> None:
    crowd = [("guest:1", "guest")] * 900 + [(f"user{n}", "member") for n in range(100)]
    presence = ask.presence(serve(scripts.answering({"page": page(*crowd)})).url)
    assert len(presence.users("/a", 3)) == 3
    [kept] = presence._answers._known.values()
    assert [viewer.user for viewer in kept.value.users] == ["user0", "user1", "user2"]


def test_a_server_that_lists_few_is_asked_for_fewer(serve: Any, ask: Any) -> None:
    def script(talk: Any) -> None:
        while request := talk.request():
            msgid, _, (url, limit) = request
            if url == b"/long":
                talk.refuse(msgid, "RANGE", "url has 3000 bytes, at most 2048 are taken")
            elif limit > 300:
                talk.refuse(msgid, "RANGE", f"limit takes 0 to 300, not {limit}")
            else:
                talk.answer(msgid, page(("theo", "member")))

    presence = ask.presence(serve(script).url)
    assert [len(presence.users("/a", 3)) for _ in range(4)] == [0, 0, 1, 1]
    assert presence.page("/a", 400) is None
    assert presence.users("/long") == ()
    assert len(presence.users("/b", 3)) == 1


@pytest.mark.parametrize("answer", [7, [1], [1, 2, 3, None], [1, 2, [3], None], [1, 2, [["theo", 1]], None]])
def test_an_answer_of_another_shape_is_a_failure(serve: Any, scripts: Any, ask: Any, answer: Any) -> None:
    presence = ask.presence(serve(scripts.answering({"page": answer})).url)
    assert presence.users("/a") == ()
    assert presence.count() is None


def test_an_answer_is_not_asked_for_again_while_it_is_fresh(serve: Any, scripts: Any, ask: Any) -> None:
    presence = ask.presence(serve(counting(scripts)).url, fresh_s=2.0)
    assert [presence.count(), presence.count("/a")] == [1, 2]
    ask.now_s += 1.9
    assert [presence.count(), presence.count("/a")] == [1, 2]
    ask.now_s += 0.1
    assert [presence.count(), presence.count("/a")] == [3, 4]


def test_a_server_that_is_down_is_left_alone_for_longer_and_longer(serve: Any, ask: Any, scripts: Any) -> None:
    server = serve(scripts.closing)
    presence = ask.presence(server.url)
    waited_s = FIRST_PAUSE_S
    for attempts in range(1, 8):
        assert presence.count() is None
        assert server.connections == attempts
        ask.now_s += waited_s - 0.01
        assert presence.count() is presence.count("/a") is None
        assert server.connections == attempts
        ask.now_s += 0.01
        waited_s = min(2 * waited_s, LONGEST_PAUSE_S)


def test_while_the_server_fails_the_last_known_answer_is_given(serve: Any, scripts: Any, ask: Any) -> None:
    server = serve(counting(scripts))
    presence = ask.presence(server.url)
    assert presence.count() == 1
    server.script = scripts.closing
    server.disconnect()
    ask.now_s += 60
    assert presence.count() == 1
    assert presence.count("/a") is None
    ask.now_s += KNOWN_S
    assert presence.count() is None
    assert presence.users("/a") == ()


def test_a_server_that_is_well_again_is_asked_again_after_the_pause(serve: Any, scripts: Any, ask: Any) -> None:
    server = serve(scripts.closing)
    presence = ask.presence(server.url)
    assert presence.count() is None
    server.script = counting(scripts)
    ask.now_s += FIRST_PAUSE_S
    assert [presence.count(), presence.count("/a")] == [1, 2]
    server.script = scripts.closing
    server.disconnect()
    ask.now_s += 60
    assert presence.count("/b") is None
    server.script = counting(scripts)
    ask.now_s += FIRST_PAUSE_S
    assert presence.count("/b") == 1, "the second outage begins with the first pause"


def test_a_server_that_hangs_holds_one_question_up(serve: Any, scripts: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(scripts.silent)
    with Presence(server.url) as presence:
        assert [presence.count(), presence.count("/a"), presence.page("/b")] == [None, None, None]
    assert [verb for verb, _ in server.requests] == ["count"]
    assert [record.message for record in caplog.records] == [
        f"{server.url}/default did not answer within 0.05 s; retrying in 1 s"
    ]


@pytest.mark.parametrize("code", ["NOAUTH", "WRONGPASS", "LOADING", "ERR", "PROTO"])
def test_a_server_that_refuses_is_left_alone_too(serve: Any, ask: Any, code: str) -> None:
    server = serve(refusing(code))
    presence = ask.presence(server.url)
    assert presence.count() is presence.count("/a") is None
    assert len(server.requests) == 1


def test_a_question_outside_the_limits_does_no_harm_to_others(
    serve: Any, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(refusing("RANGE"))
    presence = ask.presence(server.url)
    assert presence.page("/a", 5_000) is presence.page("/a", 5_000) is None
    assert presence.count() is None
    assert [verb for verb, _ in server.requests] == ["page", "count"]
    assert caplog.records[0].message == "RANGE it is so"


def test_a_mistake_in_the_program_is_raised(ask: Any) -> None:
    with pytest.raises(TypeError, match="url takes str or bytes, not int"):
        ask.presence("online://127.0.0.1:1").count(7)
    with pytest.raises(AddressError, match="should begin with"):
        Presence("http://127.0.0.1")


def test_while_one_asks_the_others_take_what_is_known(serve: Any, ask: Any) -> None:
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)

    def script(talk: Any) -> None:
        while request := talk.request():
            asked.release()
            assert answered.acquire(timeout=PATIENCE_S)
            talk.answer(request[0], len(talk.server.requests))

    server = serve(script)
    presence = ask.presence(server.url)
    answered.release()
    assert presence.count() == 1
    ask.now_s += 10
    counts: list[int | None] = []
    thread = threading.Thread(target=lambda: counts.append(presence.count()))
    thread.start()
    assert asked.acquire(timeout=PATIENCE_S)
    assert asked.acquire(timeout=PATIENCE_S)
    assert presence.count() == 1
    answered.release()
    thread.join()
    assert counts == [2]


def test_after_a_pause_one_asks_and_the_others_do_not_wait_for_it() -> None:
    answers = Answers(1.0)
    assert answers.is_due(QUESTION, 0.0)
    assert answers.is_due(OTHER, 0.0)
    assert answers.fail(0.05) == answers.fail(0.06) == 1.0
    assert not answers.is_due(OTHER, 1.04)
    assert answers.is_due(QUESTION, 1.05)
    assert not answers.is_due(OTHER, 1.06)
    assert answers.fail(1.10) == 2.0
    assert not answers.is_due(OTHER, 3.04)
    assert answers.is_due(QUESTION, 3.05)
    answers.learn(QUESTION, 7, 3.06)
    assert answers.is_due(OTHER, 3.07)


def test_answers_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_KNOWN", 2)
    answers = Answers(1.0)
    first, second, third = map(verbs.count, ["/a", "/b", "/c"])
    answers.learn(first, 1, 0.0)
    answers.learn(second, 2, 0.0)
    assert answers.known(first, 0.0) == 1
    answers.learn(third, 3, 0.0)
    assert [answers.known(question, 0.0) for question in (first, second, third)] == [1, None, 3]


def test_a_forked_child_asks_for_itself(serve: Any, scripts: Any, ask: Any) -> None:
    server = serve(counting(scripts))
    presence = ask.presence(server.url)
    assert presence.count() == 1
    ask.now_s += 10
    with presence._answers._lock:  # as if another thread were in the midst of it
        child = os.fork()
        if child == 0:
            os._exit(presence.count() or 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert presence.count() == 3
    assert server.connections == 2


def test_the_asynchronous_one_does_the_same(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering({"count": 7, "page": page(("theo", "member"), ("guest:1", "guest"))}))

    async def visit() -> None:
        async with AsyncPresence(server.url, timeout=PATIENCE_S, fresh_s=0.0) as presence:
            assert [await presence.count(), await presence.count("/a")] == [7, 7]
            answer = await presence.page("/a")
            assert answer is not None
            assert answer.here == 2
            assert [viewer.user for viewer in await presence.users("/a")] == ["theo"]
            server.script = scripts.closing
            server.disconnect()
            asked = len(server.requests)
            assert [await presence.count(), await presence.count("/b")] == [7, None]
            assert len(server.requests) <= asked + 1

    asyncio.run(visit())


NOW_MS = 1_709_208_000_123


def seen_at(url: str) -> list[Any]:
    return [[url, NOW_MS]]


@pytest.mark.parametrize(
    ("reader", "seen", "count", "here", "kinds", "users"),
    [
        (Reader("ada", "/a", "member"), [None], 8, 8, Kinds(4, 2, 1, 0), ["ada", "theo"]),
        (Reader("ada", "/a", "member"), seen_at("/b"), 7, 8, Kinds(4, 2, 1, 0), ["ada", "theo"]),
        (Reader("ada", "/a", "member"), seen_at("/a"), 7, 7, Kinds(3, 2, 1, 0), ["ada", "theo"]),
        (Reader("theo", "/a", "member"), seen_at("/a"), 7, 7, Kinds(3, 2, 1, 0), ["theo"]),
        (Reader("guest-1", "/a", "guest"), [None], 8, 8, Kinds(3, 3, 1, 0), ["theo"]),
        (Reader("ada", "/b", "member"), [None], 8, 7, Kinds(3, 2, 1, 0), ["theo"]),
        (Reader("eve", "/a", "hidden"), [None], 7, 7, Kinds(3, 2, 1, 0), ["theo"]),
        (None, [None], 7, 7, Kinds(3, 2, 1, 0), ["theo"]),
    ],
    ids=["newcomer", "from another page", "here", "listed", "guest", "on another page", "hidden", "nobody"],
)
@pytest.mark.parametrize("way", ["in a thread", "in a loop"])
def test_a_page_counts_and_lists_its_reader(
    serve: Any, scripts: Any, way: str, reader: Any, seen: Any, count: int, here: int, kinds: Kinds, users: Any
) -> None:
    answers = {"count": 7, "kinds": [3, 2, 1, 0], "seen": seen, "page": page(("theo", "member"), ("guest-1", "guest"))}
    url = serve(scripts.answering(answers)).url

    async def in_a_loop() -> list[Any]:
        async with AsyncPresence(url, timeout=PATIENCE_S) as presence:
            return [
                await presence.count(reader=reader), await presence.count("/a", reader=reader),
                await presence.kinds("/a", reader=reader), await presence.users("/a", reader=reader),
            ]  # fmt: skip

    def in_a_thread() -> list[Any]:
        with Presence(url, timeout=PATIENCE_S) as presence:
            return [
                presence.count(reader=reader), presence.count("/a", reader=reader),
                presence.kinds("/a", reader=reader), presence.users("/a", reader=reader),
            ]  # fmt: skip

    *counts, listed = asyncio.run(in_a_loop()) if way == "in a loop" else in_a_thread()
    assert counts == [count, here, kinds]
    assert [viewer.user for viewer in listed] == users
