"""State files: everybody comes back as old as they are; a damaged file is kept, said, and in nobody's way."""

import errno
import os
from pathlib import Path

import msgpack
import pytest

from online import files
from online.core.sites import DEFAULT_SITE, Sites
from online.errors import StateError
from online.keep import state
from online.keep.state import Loaded
from online.limits import Limits

NOW_MS = 1_700_000_000_000


def make_sites(**limits):
    return Sites(Limits(**({"max_memory": 2**30} | limits)))


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


def load(path, sites=None, now_ms=NOW_MS):
    sites = sites or make_sites()
    return sites, state.load(path, sites, lambda: now_ms)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def saved(path, busy):
    state.save(path, busy)
    return path.read_bytes()


def test_everybody_comes_back(path, busy):
    assert state.save(path, busy) == 9
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


def test_times_are_saved_and_read_as_wall_time(path, busy):
    state.save(path, busy, clock_step_ms=3_600_000)
    sites, _ = load(path, now_ms=NOW_MS + 3_600_000)
    assert sites[DEFAULT_SITE].seen([b"a"], now_ms=NOW_MS + 3_600_000) == [(b"/x", NOW_MS + 3_600_000)]


def test_a_site_without_sessions_is_not_kept(path):
    sites = make_sites()
    sites.open(b"empty")
    state.save(path, sites)
    assert list(load(path)[0]) == [DEFAULT_SITE]


def test_frames_are_read_whatever_clients_may_send(path):
    sites = make_sites()
    for n in range(5_000):
        sites[DEFAULT_SITE].hit(b"%d" % n, b"/%d" % n, now_ms=NOW_MS)
    state.save(path, sites)
    narrow = make_sites(max_frame=4096, max_items=16, max_depth=3)
    _, loaded = load(path, narrow)
    assert loaded == Loaded(users=5_000)


def test_who_does_not_fit_is_counted(path, saved):
    _, loaded = load(path, make_sites(max_users=3))
    assert (loaded.users, loaded.refused, loaded.damage) == (6, 3, "")
    assert path.exists()


def test_the_file_is_frames_of_messagepack(saved):
    unpacker = msgpack.Unpacker()
    unpacker.feed(saved)
    methods = [method for _, method, _ in unpacker]
    assert methods[:3] == ["ECHO", "SITE", "hits"]
    assert methods[-1] == "ECHO"
    assert set(methods) == {"ECHO", "SITE", "hits", "LEAVE"}


def test_the_file_is_for_its_owner_alone(path, saved):
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_else_is_left_in_the_folder(path, saved):
    assert os.listdir(path.parent) == ["state"]


def test_a_link_stays_a_link(path, busy, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "real")
    files.check(path)
    state.save(path, busy)
    assert path.is_symlink()
    assert os.listdir(tmp_path / "elsewhere") == ["real"]
    assert load(path)[1] == Loaded(users=9)
    path.write_bytes(path.read_bytes()[:-1])
    assert load(path)[1].damage
    assert os.listdir(tmp_path / "elsewhere") == ["real.damaged"]


# No file


def test_a_missing_file_is_an_empty_start(path):
    assert load(path)[1] == Loaded(is_found=False)


def test_an_empty_file_is_an_empty_start(path):
    path.touch()
    assert load(path)[1] == Loaded()
    assert path.exists()


# One server at a time


def test_a_file_is_one_servers_at_a_time(path):
    with state.hold(path):
        with pytest.raises(StateError, match=f"^state file {path} is in use by another server"), state.hold(path):
            pass
        with state.hold(path.with_name("other")):
            pass
    with state.hold(path):
        pass


def test_a_file_is_held_while_it_is_replaced(path, busy):
    with state.hold(path):
        state.save(path, busy)
        with pytest.raises(StateError, match="is in use"), state.hold(path):
            pass


def test_a_file_is_held_under_all_its_names(path):
    link = path.with_name("link")
    link.symlink_to(path)
    with state.hold(path), pytest.raises(StateError, match=f"^state file {link} is in use"), state.hold(link):
        pass


def test_a_file_that_cannot_be_locked_is_said(path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.raises(StateError, match=r"cannot be locked: No locks available: .*\.state\.lock$"), state.hold(path):
        pass


# Damage


def test_a_truncated_file_gives_what_it_holds_and_is_kept(path, saved):
    for length in range(1, len(saved)):
        path.write_bytes(saved[:length])
        _, loaded = load(path)
        assert loaded.damage == f"truncated at byte {length}"
        assert not path.exists()
        assert state.damaged(path).read_bytes() == saved[:length]
    assert loaded.users == 9


def test_any_changed_byte_is_noticed(path, saved):
    for place in range(len(state.MARK), len(saved)):
        changed = bytearray(saved)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        _, loaded = load(path)
        assert loaded.damage
        assert state.damaged(path).read_bytes() == changed


def test_bytes_behind_the_end_are_noticed(path, saved):
    path.write_bytes(saved + b"\xc1")
    assert load(path)[1].damage


def test_damage_says_where(path, saved):
    path.write_bytes(state.MARK + b"\xc1" * 10)
    assert load(path)[1].damage == f"no message among bytes 0 to {len(state.MARK) + 10} of {len(state.MARK) + 10}"


@pytest.mark.parametrize("content", [b"[settings]\n", b"\x00" * 64, b"*1\r\n$4\r\nQUIT\r\n", b"\x93\x02"[::-1]])
def test_somebody_elses_file_is_neither_read_nor_moved(path, content):
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"state is no state file, it is left as it is"):
        load(path)
    assert path.read_bytes() == content


def test_a_file_of_another_version_is_not_ours(path, saved):
    path.write_bytes(saved.replace(b"online state 1", b"online state 2"))
    with pytest.raises(StateError, match="is no state file"):
        load(path)


# What the system refuses


def test_a_path_that_cannot_be_written_is_noticed_before(path):
    path.touch()
    for bad in (path / "below a file", path.parent / "missing" / "state"):
        with pytest.raises(StateError, match=f"^state file {bad} cannot be written: "):
            files.check(bad)
    for bad in (path.parent, Path("/dev/null")):
        with pytest.raises(StateError, match=f"^state file {bad} is not a regular file"):
            files.check(bad)


def test_to_check_leaves_no_trace(path):
    files.check(path)
    assert os.listdir(path.parent) == []


def test_a_file_that_cannot_be_read_is_said(path, monkeypatch):
    def refuse(self, mode):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(StateError, match=r"cannot be read: Permission denied"):
        load(path)


def test_a_full_disk_leaves_the_old_file(path, busy, saved, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StateError, match=r"cannot be written: No space left on device"):
        state.save(path, busy)
    assert path.read_bytes() == saved
    assert os.listdir(path.parent) == ["state"]


def test_what_an_earlier_attempt_left_is_replaced(path, busy):
    (path.parent / ".state.new").write_bytes(b"half a file" * 1000)
    state.save(path, busy)
    assert load(path)[1] == Loaded(users=9)
