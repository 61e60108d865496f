"""Clients of version 0.1 are answered as they were, and what older versions have kept on disk is read."""

import inspect
import re
import shutil
from ast import literal_eval
from pathlib import Path

import msgpack
import pytest
from tests.keep.directories import recover
from tests.wiring import feed

from online.core.index import Index
from online.core.sites import DEFAULT_SITE, Sites
from online.keep.folder import Folder
from online.keep.history import History
from online.limits import Limits
from online.serve.tokens import Tokens, grant
from online.serve.verbs import Verbs
from online_client import Client, verbs

FOLDER = Path(__file__).parent
NOW_MS = 1_700_000_000_000

#: Cursors of an index with this seed are the same in each run. It is that of the recording.
SEED = bytes(16)


def conversations():
    """The recorded conversations: a title, and what was sent and answered."""
    text = (FOLDER / "client-0.1.txt").read_text()
    for part in text.split("\n= ")[1:]:
        title, *lines = part.strip().split("\n")
        said = [literal_eval(line[2:]) for line in lines]
        yield title, list(zip(said[::2], said[1::2], strict=True))


CONVERSATIONS = dict(conversations())


def make_sites():
    sites = Sites(Limits(max_memory=2**30))
    sites._indexes[DEFAULT_SITE] = Index(seed=SEED)
    return sites


def answered(sent, reply):
    """A reply as it is compared. Errors have a code that holds, and words for people; INFO may tell more."""
    _, _, verb, _ = msgpack.unpackb(sent, unicode_errors="surrogateescape")
    kind, msgid, error, result = msgpack.unpackb(reply, unicode_errors="surrogateescape")
    if error is not None:
        return kind, msgid, error[0]
    if verb == "info":
        return kind, msgid, set(re.findall(r"^(# \w+|\w+:)", result, re.MULTILINE))
    if verb == "hits" and result[3] is not None:
        result[3] = result[3][0]
    return kind, msgid, result


@pytest.mark.parametrize("title", CONVERSATIONS)
def test_a_client_of_version_0_1_is_answered_as_it_was(title):
    server = Verbs(make_sites(), Tokens([grant(b"secret")] if "token" in title else []))
    server.started_ms = NOW_MS
    connection = server.connections.open()[0]
    for sent, recorded in CONVERSATIONS[title]:
        was, now = answered(sent, recorded), answered(sent, feed(connection, sent, now_ms=NOW_MS))
        if isinstance(was[2], set):
            assert was[2] <= now[2], sent
        else:
            assert now == was, sent


def test_the_recording_has_every_verb_that_the_client_had_then():
    said = [each for conversation in CONVERSATIONS.values() for each, _ in conversation]
    asked = {msgpack.unpackb(each, unicode_errors="surrogateescape")[2] for each in said}
    later = {"history", "visitors", "last", "forget", "subscribe", "unsubscribe"}
    functions = {name for name, _ in inspect.getmembers(verbs, inspect.isfunction) if hasattr(Client, name)}
    assert asked == functions - later | {"hits", "auth", "site"}


# What was kept on disk


def recovered(kept, tmp_path):
    """Read a copy as a server does; return who is online on each site, with the report."""
    path = tmp_path / "state"
    (shutil.copytree if kept.is_dir() else shutil.copy)(kept, path)
    with Folder(path).hold():
        sites, report = recover(path)
    assert report.is_clean
    assert not report.torn
    return sites, report


def everybody(sites):
    return {
        name: (tuple(index.kinds(now_ms=NOW_MS)), index.recent(9, now_ms=NOW_MS)[0]) for name, index in sites.items()
    }


def test_a_state_file_of_version_0_1_is_read(tmp_path):
    sites, report = recovered(FOLDER / "state-0.1", tmp_path)
    assert report.taken_over.users == 7
    default = [
        (b"\xff\xfe", "/b\u00fccher".encode(), NOW_MS - 1_000, "member"),
        (b"guest-1", b"/forum/1", NOW_MS - 3_000, "guest"),
        (b"ada", b"/forum/1", NOW_MS - 5_000, "member"),
    ]
    assert everybody(sites) == {
        b"default": ((2, 1, 1, 1), default),
        b"shop": ((1, 0, 0, 0), [(b"kim", b"/a", NOW_MS - 100, "member")]),
    }


def test_a_state_directory_of_version_1_is_read(tmp_path):
    sites, report = recovered(FOLDER / "state-1", tmp_path)
    assert report.snapshot is not None
    default = [
        (b"\xff\xfe", "/b\u00fccher".encode(), NOW_MS - 4_000, "member"),
        (b"bob", b"/forum/2", NOW_MS - 5_000, "member"),
        (b"guest-1", b"/forum/1", NOW_MS - 40_000, "guest"),
    ]
    assert everybody(sites) == {
        b"default": ((2, 1, 1, 1), default),
        b"shop": ((1, 0, 0, 0), [(b"kim", b"/a", NOW_MS - 10_000, "member")]),
    }
    assert sites[DEFAULT_SITE].statistics().accepted == 8
    assert sites[DEFAULT_SITE].peak() == (5, NOW_MS)


def test_a_history_of_version_1_is_read(tmp_path):
    path = shutil.copy(FOLDER / "state-1" / "history", tmp_path)
    history = History(Path(path))
    minute_ms = NOW_MS // 60_000 * 60_000 - 60_000
    assert history.rows(DEFAULT_SITE, minute_ms, minute_ms + 60_000, 60_000) == [(minute_ms, 5, 2, 2, 1, 9, 4)]
    assert history.last(DEFAULT_SITE, [b"ada", b"bob"]) == [(b"/forum/1", NOW_MS - 60_000), None]
    history.close()
