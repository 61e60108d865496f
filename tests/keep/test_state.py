"""State files of version 0.1 are taken over: everybody comes back, as old as they are; damage is said."""

from zlib import crc32

import msgpack
import pytest

from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import dump
from online.errors import StateError
from online.keep import state
from online.keep.state import Loaded
from online.limits import Limits

NOW_MS = 1_700_000_000_000


def make_sites(**limits):
    return Sites(Limits(**({"max_memory": 2**30} | limits)))


def state_file(sites, clock_step_ms=0):
    """What version 0.1 wrote."""
    body = state.MARK
    for name, index in sites.items():
        body += msgpack.packb([2, "SITE", [name]]) + b"".join(dump(index, clock_step_ms=clock_step_ms))
    return body + msgpack.packb([2, "ECHO", [f"online state 1 ends, crc32 {crc32(body):08x}"]])


@pytest.fixture
def busy():
    """Two sites with users of every kind, one of them departed."""
    sites = make_sites()
    default, shop = sites[DEFAULT_SITE], sites.open(b"shop \xff")
    for age_s, (user, url, kind) in enumerate(
        [(b"a", b"/x", "member"), (b"b", b"/x", "guest"), (b"c", b"/y", "hidden"), (b"\xff\x00", b"/\n", "bot")]
    ):
        default.hit(user, url, seen_ms=NOW_MS - 60_000 * age_s, kind=kind, now_ms=NOW_MS)
        shop.hit(user * 2, url, seen_ms=NOW_MS - 60_000 * age_s, kind=kind, now_ms=NOW_MS)
    default.leave(b"gone", seen_ms=NOW_MS - 1_000, now_ms=NOW_MS)
    return sites


def picture(sites, now_ms=NOW_MS):
    """Everything that sites answer."""
    return {
        name: (index.kinds(now_ms=now_ms), index.recent(100, now_ms=now_ms)[0], index.statistics().users)
        for name, index in sites.items()
    }


def load(path, sites=None, now_ms=NOW_MS, **settings):
    sites = sites or make_sites()
    loading = state.Loading(path, sites, lambda: now_ms, **settings)
    for _ in loading.pieces():
        pass
    return sites, loading.loaded


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def saved(path, busy):
    path.write_bytes(state_file(busy))
    return path.read_bytes()


def test_everybody_comes_back(path, busy, saved):
    sites, loaded = load(path)
    assert loaded == Loaded(users=9)
    assert picture(sites) == picture(busy)


def test_who_has_left_stays_away(path, saved):
    sites, _ = load(path)
    assert not sites[DEFAULT_SITE].hit(b"gone", b"/x", seen_ms=NOW_MS - 2_000, now_ms=NOW_MS)


def test_everybody_is_older_by_the_time_away(path, busy, saved):
    later_ms = NOW_MS + 1_800_000 - 90_000
    sites, loaded = load(path, now_ms=later_ms)
    assert (loaded.users, loaded.late) == (5, 4)
    assert picture(sites, later_ms) == picture(busy, later_ms)


def test_times_are_read_as_wall_time(path, busy):
    path.write_bytes(state_file(busy, clock_step_ms=3_600_000))
    sites, _ = load(path, now_ms=NOW_MS + 3_600_000)
    assert sites[DEFAULT_SITE].seen([b"a"], now_ms=NOW_MS + 3_600_000) == [(b"/x", NOW_MS + 3_600_000)]


def test_frames_are_read_whatever_clients_may_send(path):
    sites = make_sites()
    for n in range(5_000):
        sites[DEFAULT_SITE].hit(b"%d" % n, b"/%d" % n, now_ms=NOW_MS)
    path.write_bytes(state_file(sites))
    narrow = make_sites(max_frame=4096, max_items=16, max_depth=3)
    _, loaded = load(path, narrow)
    assert loaded == Loaded(users=5_000)


def test_who_does_not_fit_is_counted(path, saved):
    _, loaded = load(path, make_sites(max_users=3))
    assert (loaded.users, loaded.refused, loaded.damage) == (6, 3, "")


# Damage


def test_an_empty_file_is_said_to_be_empty(path):
    path.touch()
    state.check_mark(path)
    assert load(path)[1] == Loaded(is_empty=True)


def test_a_truncated_file_gives_what_it_holds(path, saved):
    for length in range(1, len(saved)):
        path.write_bytes(saved[:length])
        _, loaded = load(path)
        assert loaded.damage == f"it is cut off at byte {length}"
    assert loaded.users == 9


def test_any_changed_byte_is_noticed(path, saved):
    for place in range(len(state.MARK), len(saved)):
        changed = bytearray(saved)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        _, loaded = load(path)
        assert loaded.damage.startswith(("bytes have changed", "it is cut off"))


def test_a_flipped_bit_is_called_a_change(path, saved):
    changed = bytearray(saved)
    changed[saved.index(b"/x") + 1] ^= 0x01
    path.write_bytes(changed)
    assert load(path)[1].damage == "bytes have changed: the checksum differs"


@pytest.mark.parametrize("place", range(len(state.MARK) - 1))
def test_a_flipped_bit_in_the_mark_is_called_damage(path, saved, place):
    changed = bytearray(saved)
    changed[place] ^= 0x04
    path.write_bytes(changed)
    with pytest.raises(StateError, match="is damaged at its beginning: bytes have changed since it was written"):
        load(path)


def test_bytes_behind_the_end_are_noticed(path, saved):
    path.write_bytes(saved + b"\xc1")
    assert load(path)[1].damage


@pytest.mark.parametrize("content", [b"[settings]\n" * 3, b"\x00" * 64, b"*1\r\n$4\r\nQUIT\r\n", b"\x93\x02"[::-1]])
def test_somebody_elses_file_is_not_read(path, content):
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"state is not a state file of online. It was left untouched"):
        load(path)
    assert path.read_bytes() == content


def test_a_file_of_a_later_version_is_said_to_be_that(path, saved):
    path.write_bytes(saved.replace(b"online state 1", b"online state 2"))
    with pytest.raises(StateError, match="was written by a later version of online: its format is 2, this version"):
        load(path)


def test_a_file_that_cannot_be_read_is_said(path):
    with pytest.raises(StateError, match=r"cannot be read: No such file"):
        load(path)
