"""The clients against a real server in a process of its own: every verb, TLS, tokens, restarts, limits."""

import inspect
import random
import signal
import ssl
from datetime import UTC, datetime, timedelta

import anyio
import pytest
import trustme
from tests.serving import PATIENCE_S, server_process

from online.terms import KINDS
from online_client import (
    BatchResult,
    Client,
    ConnectionFailed,
    FullError,
    Kinds,
    Peak,
    RangeError,
    Reporter,
    Section,
    Site,
    TokenWantedError,
    TopPage,
    WrongTokenError,
)
from online_client.aio import AsyncClient


class Awaited:
    """An AsyncClient with the methods of a Client, each run to its end in an event loop of its own."""

    def __init__(self, url, backend):
        self._url = url
        self._backend = backend

    def __getattr__(self, name):
        def call(*args, **kwargs):
            return anyio.run(self._call, name, args, kwargs, backend=self._backend)

        return call

    async def _call(self, name, args, kwargs):
        async with AsyncClient(self._url, timeout=PATIENCE_S) as client:
            answer = getattr(client, name)(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else [each async for each in answer]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def client(url, request):
    """Each of the clients in turn."""
    made = Client(url, timeout=PATIENCE_S) if request.param == "blocking" else Awaited(url, request.param)
    with made:
        yield made


def now_ms():
    return int(datetime.now(UTC).timestamp() * 1000)


def test_a_site_in_a_nutshell(client, url):
    before = datetime.now(UTC) - timedelta(seconds=1)
    client.hit("theo", "/a/1")
    client.hit(17, "/a/1", kind="guest", seen_ms=now_ms() - 10_000)
    client.hit("ghost", "/a/2", kind="hidden")
    client.hit("robot", "/a/2", kind="bot")
    assert client.count() == 3
    assert client.count("/a/1") == 2
    assert client.count(within=timedelta(seconds=5)) == 2
    assert client.counts("/a/1", "/a/2", "/nowhere") == [2, 1, 0]
    assert client.kinds() == Kinds(members=1, guests=1, hidden=1, bots=1)
    assert client.kinds("/a/1").people == 2
    page = client.page("/a/1")
    assert (page.online, page.here, page.cursor) == (3, 2, None)
    assert [(viewer.user, viewer.kind) for viewer in page.users] == [("theo", "member"), ("17", "guest")]
    assert before < page.users[0].seen_at <= datetime.now(UTC)
    assert page.users[0].age < timedelta(seconds=PATIENCE_S)
    assert page.users[1].age >= timedelta(seconds=10)
    assert [(session.user, session.url) for session in client.recent().users] == [("theo", "/a/1"), ("17", "/a/1")]
    assert [session.user for session in client.users("1").users] == ["17"]
    here, away, hidden = client.seen("theo", "nobody", "ghost")
    assert (here.url, away, hidden) == ("/a/1", None, None)
    assert client.section("/a/") == Section(people=3, pages=2)
    assert client.top() == [TopPage("/a/1", 2), TopPage("/a/2", 1)]
    peak = client.peak()
    assert (peak.people, before < peak.at) == (3, True)
    assert Site(url.rpartition("/")[2], 3) in client.sites()
    assert client.info()["Server"]["version"]
    assert list(client.info("memory")) == ["Memory"]
    assert client.ping() == "PONG"
    assert abs(client.time() - datetime.now(UTC)) < timedelta(seconds=PATIENCE_S)
    client.leave("theo")
    assert client.seen("theo") == [None]
    assert client.count() == 2


def test_a_site_without_hits(client):
    assert client.count() == 0
    assert client.page("/").users == ()
    assert client.peak() == Peak(0, None)
    assert client.top() == []
    assert client.section("/") == Section(0, 0)


@pytest.mark.parametrize(
    "name",
    ["jörg", "\udcff\udc80", "a b", "q\"'\\", "nul\0", "cr\r\nlf", "\x1b[31m", "雪" * 80, b"\xff".decode("latin-1")],
)
def test_names_come_back_as_they_went(client, name):
    client.hit(name, f"/{name}")
    (viewer,) = client.page(f"/{name}").users
    assert viewer.user == name
    assert client.seen(name)[0].url == f"/{name}"


def test_what_is_outside_its_limits_is_refused_by_name(client):
    for call, says in [
        (lambda: client.hit("", "/"), "user is empty; it takes 1 to 256 bytes"),
        (lambda: client.hit("u" * 257, "/"), "user has 257 bytes, the limit is 256"),
        (lambda: client.hit("u", "/" * 2_049), "url has 2049 bytes, the limit is 2048"),
        (lambda: client.hit("u", "/", kind="robot"), 'kind takes .* not "robot"'),
        (lambda: client.hit("u", "/", seen_ms=-1), "seen_ms takes .* not -1"),
        (lambda: client.hit("u", "/", seen_ms=1_709_208_000), "looks like seconds"),
        (lambda: client.hit("u", "/", seen_ms=2**70), "seen_ms takes"),
        (lambda: client.page("/", -1), "limit takes 0 to 1000, not -1"),
        (lambda: client.page("/", 1_001), "limit takes 0 to 1000, not 1001"),
        (lambda: client.page("/", 30, "mine"), 'cursor must be .* not "mine"'),
        (lambda: client.count(within=0), "within_s takes 1 to 1800, not 0"),
        (lambda: client.count("/", within=60), "within counts the whole site only; leave out url"),
        (lambda: client.counts(*["/"] * 1_001), "1001 urls"),
    ]:
        with pytest.raises(RangeError, match=says):
            call()
    assert client.count() == 0


def test_one_bad_hit_of_a_thousand(client):
    hits = [(user, "/a") for user in range(1_000)]
    hits[500] = ("", "/a")
    result = client.hits(hits)
    assert (result.accepted, result.ignored, result.refused) == (999, 0, 1)
    assert "user is empty" in result.first_error
    assert client.count("/a") == 999


def test_hits_in_several_batches(client):
    now = now_ms()
    hits = [(user, f"/{user % 100}", now - user % 1_000, KINDS[user % 4]) for user in range(100_000)]
    assert client.hits(hits) == BatchResult(100_000, 0, 0, None)
    assert client.kinds() == Kinds(25_000, 25_000, 25_000, 25_000)
    assert client.counts("/0", "/3") == [1_000, 0]


def test_lists_of_any_length_are_complete_and_in_order(client):
    now = now_ms()
    client.hits((user, "/a", now - user) for user in range(2_500))
    assert [int(viewer.user) for viewer in client.all_on_page("/a")] == list(range(2_500))
    assert [int(session.user) for session in client.all_recent(limit=700)] == list(range(2_500))
    assert [session.user for session in client.all_users("1", limit=300)] == sorted(
        str(user) for user in range(2_500) if str(user).startswith("1")
    )


def test_pages_are_as_a_dictionary_says(client):
    rng = random.Random(7)
    now = now_ms() - 1_000
    newest = {}
    hits = [(f"u{rng.randrange(3_000)}", f"/{rng.randrange(200)}", now - rng.randrange(600_000)) for _ in range(9_000)]
    for user, url, seen_ms in hits:
        if seen_ms >= newest.get(user, ("", 0))[1]:
            newest[user] = url, seen_ms
    client.hits(hits)
    assert client.count() == len(newest)
    for url in ["/0", "/7", "/199"]:
        here = {user for user, (where, _) in newest.items() if where == url}
        page = client.page(url, 1_000)
        assert page.here == len(here)
        assert {viewer.user for viewer in page.users} == here


def test_a_reporter_reports(url):
    reporter = Reporter(url, interval_s=0.0)
    for user in range(5_000):
        reporter.hit(user, "/a", kind="guest")
    reporter.hit("", "/a")
    assert reporter.close(PATIENCE_S)
    statistics = reporter.statistics()
    assert (statistics.sent, statistics.refused, statistics.dropped) == (5_000, 1, 0)
    assert "user is empty" in statistics.last_error
    with Client(url) as client:
        assert client.kinds("/a").guests == 5_000


# Servers of another kind


def test_a_unix_socket(tmp_path):
    with (
        server_process("--listen", f"unix:{tmp_path / 'online.sock'}"),
        Client(f"online+unix://{tmp_path / 'online.sock'}?site=shop") as client,
    ):
        client.hit("theo", "/a")
        assert client.sites() == [Site("default", 0), Site("shop", 1)]


def test_a_token():
    with server_process("--token", "secret") as server:
        with Client(f"online://shop:secret@{server.address}") as client:
            client.hit("theo", "/a")
            assert client.count() == 1
        with Client(f"online://:secret@{server.address}") as client:
            assert client.count() == 0
        with Client(f"online://:wrong@{server.address}") as client, pytest.raises(WrongTokenError):
            client.count()
        with Client(f"online://{server.address}") as client, pytest.raises(TokenWantedError):
            client.count()


def test_tls(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with server_process("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem") as server:
        url = f"onlines://{server.address}?ca={tmp_path / 'ca.pem'}"
        with Client(url) as client:
            assert client.ping() == "PONG"
        assert Awaited(url, "asyncio").ping() == "PONG"
        assert Awaited(url, "trio").ping() == "PONG"
        with Client(f"onlines://{server.address}") as client, pytest.raises(ConnectionFailed) as caught:
            client.ping()
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        with Client(f"online://{server.address}") as client, pytest.raises(ConnectionFailed):
            client.ping()


def test_a_restart_is_not_noticed(tmp_path):
    state = ["--state", tmp_path / "state"]
    with server_process(*state) as server:
        client = Client(f"online://{server.address}", timeout=PATIENCE_S)
        client.hit("theo", "/a")
        assert server.end(signal.SIGTERM) == 0
    with client, server_process("--listen", server.address, *state):
        assert client.seen("theo")[0].url == "/a"


def test_hits_reported_while_the_server_is_away_arrive_with_their_time(tmp_path):
    with server_process() as server:
        reporter = Reporter(f"online://{server.address}", interval_s=0.0)
        reporter.hit(0, "/a")
        assert reporter.flush(PATIENCE_S)
        server.end()
    for user in range(1, 100):
        reporter.hit(user, "/a", seen_ms=now_ms() - 60_000)
    assert not reporter.flush(0)
    with server_process("--listen", server.address), Client(f"online://{server.address}") as client:
        assert reporter.close(PATIENCE_S)
        assert client.count("/a") == 99
        assert min(viewer.age for viewer in client.all_on_page("/a")) >= timedelta(seconds=60)
    assert reporter.statistics().sent == 100


def test_a_server_that_is_full_says_so():
    with (
        server_process("--max-connections", "1") as server,
        Client(f"online://{server.address}") as first,
        Client(f"online://{server.address}") as second,
    ):
        first.ping()
        with pytest.raises(ConnectionFailed, match="max number of clients reached"):
            second.ping()


def test_a_site_that_is_full_says_so():
    with server_process("--max-users", "1") as server, Client(f"online://{server.address}") as client:
        client.hit("theo", "/a")
        with pytest.raises(FullError, match="max_users"):
            client.hit("dora", "/a")
        assert client.count() == 1


def test_a_server_that_takes_small_messages_only_gets_small_batches():
    with server_process("--max-frame", "4KiB") as server, Client(f"online://{server.address}") as client:
        reporter = Reporter(f"online://{server.address}", interval_s=3_600.0)
        for user in range(900):
            reporter.hit(user, "/a")
        assert reporter.close(PATIENCE_S)
        assert reporter.statistics().sent == 900
        assert client.count("/a") == 900
