"""Logs that grow are followed through every way of rotation: no line is lost, none is handed out twice."""

import errno
import os
import random

import pytest

from online.logs import follow
from online.logs.follow import Log, Pipe
from online.logs.hitlog import MAX_LINE_BYTES, LogError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def news(log, *, settled=True):
    """All lines that are there now."""
    lines = []
    while block := log.read():
        lines += block.lines
        if settled:
            block.settle()
    return lines


def write(path, text):
    with path.open("ab") as file:
        file.write(text)


def test_log_is_read_from_its_last_whole_line_on(path):
    write(path, b"old\nhalf")
    log = Log(str(path))
    assert news(log) == []
    write(path, b" and half\nnew\nmo")
    assert news(log) == [b"half and half", b"new"]
    write(path, b"re\n")
    assert news(log) == [b"more"]


def test_log_is_read_from_its_start_if_that_is_asked_for(path):
    write(path, b"a\nb\n")
    assert news(Log(str(path), from_start=True)) == [b"a", b"b"]


def test_log_that_is_still_to_come_is_read_from_its_start(path):
    log = Log(str(path))
    assert news(log) == []
    write(path, b"a\n")
    assert news(log) == [b"a"]


def test_renamed_log_is_read_on_beside_the_new_one(path):
    write(path, b"")
    log = Log(str(path))
    write(path, b"a\n")
    path.rename(f"{path}.1")
    write(path.with_name("access.log.1"), b"b\n")
    assert news(log) == [b"a", b"b"]
    write(path, b"c\n")
    assert news(log) == [b"c"]
    write(path.with_name("access.log.1"), b"late\n")
    assert news(log) == [b"late"]


def test_renamed_log_without_news_is_closed_when_it_is_settled(path, monkeypatch):
    monkeypatch.setattr(follow, "DRAIN_S", -1)
    write(path, b"")
    log = Log(str(path))
    write(path, b"a\n")
    path.rename(f"{path}.1")
    write(path, b"b\n")
    assert news(log, settled=False) == [b"a", b"b"]
    assert len(log.places) == 2
    write(path, b"c\n")
    for block in iter(log.read, None):
        block.settle()
    log._files[0].settled = log._files[0].handed_out
    assert news(log) == []
    assert len(log.places) == 1


def test_truncated_log_is_read_from_its_start(path):
    log = Log(str(path))
    write(path, b"a\nb\nhalf")
    assert news(log) == [b"a", b"b"]
    os.truncate(path, 0)
    write(path, b"c\n")
    assert news(log) == [b"c"]


def test_truncated_log_that_has_grown_again_is_read_from_its_start(path):
    log = Log(str(path))
    write(path, b"a\n")
    assert news(log) == [b"a"]
    os.truncate(path, 0)
    write(path, b"c\nd\n")
    assert news(log) == [b"c", b"d"]


def test_what_is_settled_before_a_truncation_says_nothing_of_what_comes_after(path):
    log = Log(str(path))
    write(path, b"a\nb\n")
    block = log.read()
    os.truncate(path, 0)
    write(path, b"c\n")
    assert log.read().lines == [b"c"]
    block.settle()
    assert [place.offset for place in log.places] == [0]


def test_place_is_that_of_what_is_settled(path):
    log = Log(str(path))
    write(path, b"a\nb\nhalf")
    block = log.read()
    assert [place.offset for place in log.places] == [0]
    block.settle()
    assert [place.offset for place in log.places] == [4]


def test_next_run_goes_on_where_the_last_was_settled(path):
    write(path, b"a\n")
    first = Log(str(path), from_start=True)
    news(first)
    write(path, b"b\n")
    assert news(first, settled=False) == [b"b"]
    assert news(Log(str(path), places=first.places)) == [b"b"]


def test_next_run_finds_a_log_that_was_renamed_meanwhile(path):
    write(path, b"a\n")
    first = Log(str(path), from_start=True)
    news(first)
    write(path, b"b\n")
    path.rename(f"{path}.1")
    write(path, b"c\n")
    assert news(Log(str(path), places=first.places)) == [b"b", b"c"]


def test_next_run_begins_another_file_at_its_start(path):
    write(path, b"a\nb\n")
    first = Log(str(path), from_start=True)
    news(first)
    path.write_bytes(b"c\nd\ne\n")  # the same inode, and longer
    assert news(Log(str(path), places=first.places)) == [b"c", b"d", b"e"]
    path.write_bytes(b"f\n")
    assert news(Log(str(path), places=first.places)) == [b"f"]


def test_next_run_begins_at_the_start_when_the_file_it_knew_is_gone(path):
    write(path, b"a\n")
    first = Log(str(path), from_start=True)
    news(first)
    path.rename(path.with_name("elsewhere"))
    write(path, b"b\n")
    assert news(Log(str(path), places=first.places)) == [b"b"]


def test_log_that_is_not_followed_ends_where_the_file_ends(path):
    write(path, b"a\n")
    log = Log(str(path), from_start=True, is_followed=False)
    assert not log.is_ended
    assert news(log) == [b"a"]
    assert log.is_ended


def test_no_more_of_a_long_line_is_kept_than_shows_that_it_is_too_long(path):
    log = Log(str(path))
    write(path, b"x" * 1_000_000 + b"\nshort\n")
    lines = news(log)
    assert lines[-1] == b"short"
    assert len(lines) == 2
    assert len(lines[0]) > MAX_LINE_BYTES
    write(path, b"x" * 10_000_000)
    news(log)
    assert len(log._files[0]._lines._rest) == MAX_LINE_BYTES + 1


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(LogError, match="is no regular file"):
        Log(str(tmp_path))


def test_new_file_that_cannot_be_read_yet_is_waited_for(path, monkeypatch):
    log = Log(str(path))
    write(path, b"a\n")
    assert news(log) == [b"a"]
    path.rename(f"{path}.1")
    write(path, b"b\n")

    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert log.read() is None
    assert log.problem == f"cannot read {path}: Permission denied"
    assert news(log) == [b"b"]
    assert not log.problem
    path.rename(f"{path}.2")
    path.mkdir()
    assert news(log) == []
    assert "is no regular file" in log.problem
    path.rmdir()
    assert news(log) == []
    assert not log.problem


def test_bytes_behind_are_those_not_handed_out(path):
    log = Log(str(path))
    write(path, b"a\n")
    news(log)
    write(path, b"bcd\n")
    assert log.behind_bytes == 4


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_every_line_comes_once_and_after_a_crash_again_at_most(tmp_path, seed):
    """Writing, in pieces of lines, renaming, truncating what was read, ends and crashes of the feed, in any order."""
    dice = random.Random(seed)
    path = tmp_path / "access.log"
    path.touch()
    log, places = Log(str(path)), []
    written, came, pending, rotations, crashes = [], [], b"", 0, 0
    for step in range(150):
        match dice.choice(("write", "write", "read", "read", "rename", "truncate", "crash", "end")):
            case "write":
                text = pending + b"".join(b"%d-%d\n" % (step, number) for number in range(dice.randrange(4)))
                cut = dice.randrange(len(text) + 1)
                now, pending = (text, b"") if dice.random() < 0.7 else (text[:cut], text[cut:])
                write(path, now)
                written.append(now)
            case "read":
                settled = dice.random() < 0.7
                came += news(log, settled=settled)
                places = log.places if settled else places
            case "rename" if not pending:
                came += news(log)  # between two rotations every log is looked at
                places = log.places
                rotations += 1
                path.rename(f"{path}.{rotations:03}")
                if dice.random() < 0.5:
                    write(path.with_name(f"access.log.{rotations:03}"), late := b"late-%d\n" % step)
                    written.append(late)
                path.touch()
            case "truncate" if not pending:
                came += news(log)
                os.truncate(path, 0)
                came += news(log)
                places = log.places
            case "crash" if places:
                crashes += 1
                log.close()
                log = Log(str(path), places=places)
            case "end":
                came += news(log)
                places = log.places
                log.close()
                log = Log(str(path), places=places)
    write(path, pending + b"last\n")
    written += [pending, b"last\n"]
    came += news(log)
    expected = b"".join(written).splitlines()
    assert set(came) == set(expected)
    if not crashes:
        assert sorted(came) == sorted(expected)
    log.close()


def test_pipe_gives_what_has_come_and_at_its_end_half_a_line(path):
    reader, writer = os.pipe()
    pipe = Pipe(reader)
    os.write(writer, b"a\nb\nc")
    assert pipe.read().lines == [b"a", b"b"]
    os.close(writer)
    assert pipe.read().lines == [b"c"]
    assert pipe.is_ended
    os.close(reader)
