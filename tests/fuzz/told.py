"""Targets: subscriptions and what they are told, and the file of history."""

import contextlib
import json
import sqlite3
import tempfile
from pathlib import Path

import msgpack
from tests.fuzz.registry import target
from tests.wiring import NOW, as_bytes, drain, notification, read_resp, request, resp

from online.core.past import sketch
from online.core.sites import Sites
from online.keep.history import MINUTE_MS, History, Minute
from online.limits import Limits
from online.pieces import whole
from online.serve.verbs import Verbs

# Subscriptions

BETWEEN = b"\0--\0"  #: what two connections send in turn


class Ear:
    """What carries a connection, and remembers what it was told of each channel."""

    has_room = True

    def __init__(self, verbs):
        self.connection, _ = verbs.connections.open(self)
        self.told = {}

    def offer(self, message, *, now_ms):
        if message[:1] in b"*>":
            [[what, name, text]] = read_resp(b"*" + message[1:])
            assert what == b"message"
        else:
            _, what, (name, text) = msgpack.unpackb(message)
            assert what == "state"
        self.told[as_bytes(name)] = json.loads(text)
        return True

    def fail(self, error, *, now_ms):
        self.connection.close()
        return True


def check_told(verbs, ears):
    """Everybody was told of each channel what it is now, and nothing is counted that is not there."""
    followed = []
    for ear in ears:
        subscriber = verbs.connections.subscriber(ear.connection)
        for name, channel in subscriber.channels.items() if subscriber else ():
            followed.append(channel)
            assert ear.told[name] == json.loads(verbs.push.answer(channel.site, name, None, NOW).json())
    assert verbs.push.n_subscriptions == len(followed)
    assert verbs.push.n_channels == len(set(followed))


def subscription_seeds():
    hit, other = resp("HIT", "a", "/x"), resp("HIT", "b", b"/\xff")
    yield BETWEEN.join([resp("SUBSCRIBE", "count", "page:/x"), hit, resp("UNSUBSCRIBE", "count"), other])
    yield resp("HELLO", 3) + resp("SUBSCRIBE", "top", "user:a", b"page:/\xff") + hit + other + resp("SITE", "other")
    yield request("SUBSCRIBE", "section:/", "section:") + BETWEEN + notification("hits", ["a", "/x"], ["b", "/y"])
    yield resp("SUBSCRIBE", *(f"page:/{n}" for n in range(9))) + BETWEEN + resp("SUBSCRIBE", "page:", "no", "top:x")
    yield resp("MULTI") + resp("SUBSCRIBE", "count") + resp("EXEC") + resp("RESET") + resp("UNSUBSCRIBE")
    yield request("SITE", "shop") + request("SUBSCRIBE", "count") + BETWEEN + request("LEAVE", "a") + request("PING")


_LIMITS = Limits(
    max_frame=4_096,
    max_items=64,
    max_limit=8,
    max_user=16,
    max_url=32,
    max_subscriptions=8,
    max_all_subscriptions=12,
    max_sites=3,
    max_memory=2**28,
)


@target(subscription_seeds)
def subscriptions(data):
    """What two connections send in turn: whoever follows a channel was told its newest state."""
    sites = Sites(_LIMITS)
    verbs = Verbs(sites)
    ears = [Ear(verbs), Ear(verbs)]
    for number, sent in enumerate(data.split(BETWEEN)):
        connection = ears[number % 2].connection
        connection.receive(sent, now_ms=NOW)
        drain(connection)
        whole(verbs.push._tell_new(lambda: NOW))
        whole(verbs.push._tell_changes(lambda: NOW))
        check_told(verbs, ears)
    for ear in ears:
        verbs.connections.closed(ear.connection)
    assert (verbs.push.n_subscriptions, verbs.push.n_channels) == (0, 0)
    assert (verbs.service.connections, verbs.service.buffered_bytes) == (0, 0)
    for index in sites.values():
        index._check()


# The history

_PATCH_HEAD = 3  #: bytes: where, and how many bytes follow
_place = None
_image = b""


def _history_file():
    """Where a file of history is to be; the folder is made, and what a sound file is, once."""
    global _place, _image
    if _place is None:
        base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        _place = tempfile.TemporaryDirectory(dir=base)
        path = Path(_place.name) / "sound"
        history = History(path)
        at = NOW // MINUTE_MS
        minutes = [(b"default", Minute(at - n, 9, 5, 3, 1, 40, 9, 12, 20, NOW - n * MINUTE_MS)) for n in range(90)]
        history.add(minutes, [(site, at - at % 60, sketch([b"a", b"b"])) for site in (b"default", b"other")])
        history.add_last(b"default", [(b"ada", b"/x", NOW), (b"theo", None, NOW - 5)])
        history.forget(b"default", [b"bob"], NOW)
        history.close()
        _image = path.read_bytes()
    return Path(_place.name) / "history"


def history_seeds():
    _history_file()
    yield b""
    for what in (b"default", b"sites", b"ada", b"/x", b"bob", b"\x78\x01"):
        at = _image.find(what)
        yield at.to_bytes(2, "little") + bytes([len(what)]) + what
        yield at.to_bytes(2, "little") + bytes([1, 0]) + (at - 5).to_bytes(2, "little") + b"\2\xff\7"
    yield b"\x64\0\1\5" + b"\0\x10\1\2" + b"\x12\0\1\1"


@target(history_seeds)
def history_files(data):
    """A file of history with some bytes changed: each call succeeds, or says that the file is damaged.

    The input is patches: two bytes that say where, one that says how long, and what stands there.
    """
    path = _history_file()
    changed = bytearray(_image)
    while len(data) > _PATCH_HEAD:
        at, n_bytes = int.from_bytes(data[:2], "little") % len(changed), data[2]
        patch = data[_PATCH_HEAD : _PATCH_HEAD + n_bytes][: len(changed) - at]
        changed[at : at + len(patch)] = patch
        data = data[_PATCH_HEAD + n_bytes :]
    path.write_bytes(changed)
    for name in ("history-wal", "history-shm"):
        path.with_name(name).unlink(missing_ok=True)
    with contextlib.suppress(sqlite3.Error):
        history = History(path)
        try:
            _use(history)
        finally:
            history.close()


def _use(history):
    """Ask and write everything, each whatever became of the others."""
    at = NOW // MINUTE_MS
    sites = []
    with contextlib.suppress(sqlite3.Error):
        sites = history.sites()
        assert all(isinstance(site, bytes) for site in sites)
    for site in [b"default", *sites][:3]:
        for step in (1, 10, 60, 120, 1_440):
            with contextlib.suppress(sqlite3.Error):
                for row in history.rows(site, NOW - 90 * MINUTE_MS, NOW, step * MINUTE_MS):
                    assert len(row) == 7
                    assert all(isinstance(value, int) for value in row[:6])
                    assert row[6] is None or isinstance(row[6], int)
        with contextlib.suppress(sqlite3.Error):
            assert all(isinstance(value, int) for value in history.peak(site, NOW - 3_600_000))
        with contextlib.suppress(sqlite3.Error):
            for found in history.last(site, [b"ada", b"theo"]):
                assert found is None or (isinstance(found[0], bytes) and isinstance(found[1], int))
        with contextlib.suppress(sqlite3.Error):
            history.sketch(site, at - at % 60)
    with contextlib.suppress(sqlite3.Error):
        assert all(isinstance(name, bytes) and isinstance(user, bytes) for name, user, *_ in history.forgotten()[0])
    with contextlib.suppress(sqlite3.Error):
        history.add(
            [(b"default", Minute(at, 1, 1, 0, 0, 2, 1, 1, 1, NOW))], [(b"default", at - at % 60, sketch([b"d"]))]
        )
    with contextlib.suppress(sqlite3.Error):
        history.add_last(b"default", [(b"ada", b"/y", NOW + 1)])
    with contextlib.suppress(sqlite3.Error):
        history.prune(NOW, days=1, last_days=1)
