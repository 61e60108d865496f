"""Logs that grow are followed through every way of rotation: no line is lost, none is handed out twice."""

import bz2
import errno
import gzip
import lzma
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


# --- rotation while nobody looks

#: Each as long as a line of a log is: a file is known by its beginning.
A, B, C, D = (b"%s 198.51.100.7 - - [01/Mar/2024:12:00:00 +0000] GET /" % name for name in (b"a", b"b", b"c", b"d"))


@pytest.fixture
def stopped(path):
    """A feed that has read A, and whose log has got B since. Gives its places."""
    write(path, A + b"\n")
    first = Log(str(path), from_start=True)
    assert news(first) == [A]
    places = first.places
    first.close()
    write(path, B + b"\n")
    return places


def resumed(path, places, **options):
    log = Log(str(path), places=places, is_followed=False, **options)
    lines = news(log)
    log.close()
    return lines, log


@pytest.mark.parametrize(
    "name",
    [
        "access.log.1",
        "access-2026-11-27T04-34-43.596.log",
        "access-20261127.log",
        "access.log-20261127",
        "2026-11-27.access",
        "elsewhere",
        "old/access.log",
        "old/access-20261127.log",
    ],
)
def test_renamed_file_is_found_whatever_its_name(path, stopped, name):
    path.with_name("old").mkdir()
    path.rename(path.parent / name)
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert (lines, log.losses, log.problem) == ([B, C], [], "")


def test_file_is_found_in_a_folder_that_is_named(tmp_path, path, stopped):
    there = tmp_path / "there" / "deeper"
    there.mkdir(parents=True)
    path.rename(there / "access.log")
    write(path, C + b"\n")
    assert resumed(path, stopped, folders=[there])[0] == [B, C]


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_packed_file_is_read_on(path, stopped, pack, ending):
    path.with_name(f"access.log.1.{ending}").write_bytes(pack(path.read_bytes()))
    path.unlink()
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert (lines, log.losses) == ([B, C], [])
    again = Log(str(path), places=stopped)
    again.read().settle()
    assert [place.offset for place in again.places] == [2 * len(A) + 2]
    assert resumed(path, again.places)[0] == [C]
    assert news(again) == [C]
    assert [place.offset for place in again.places] == [len(C) + 1]  # of what is packed nothing more comes


def test_large_packed_file_is_read_on_in_its_middle(path):
    lines = [b"%07d 198.51.100.7 - - [01/Mar/2024:12:00:00 +0000] GET /" % number for number in range(100_000)]
    write(path, b"\n".join(lines[:60_000]) + b"\n")
    first = Log(str(path), from_start=True)
    assert news(first) == lines[:60_000]
    write(path, b"\n".join(lines[60_000:]) + b"\n")
    path.with_name("access.log.1.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()
    path.touch()
    assert resumed(path, first.places)[0] == lines[60_000:]


def test_copy_of_a_truncated_file_is_read_on(path, stopped):
    path.with_name("access.log.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert (lines, log.losses) == ([B, C], [])


def test_files_that_were_rotated_between_are_read(path, stopped):
    os.utime(path, (1_000, 1_000))
    path.rename(f"{path}.3")
    path.with_name("access.log.2.gz").write_bytes(gzip.compress(C + b"\n"))
    os.utime(path.with_name("access.log.2.gz"), (2_000, 2_000))
    write(path.with_name("access.log.1"), D + b"\n")
    for other in ("access.log.4", "access_ssl.log.1", "error.log.1", "access.log.old"):  # older, or another log's
        write(path.with_name(other), b"not this\n")
    os.utime(path.with_name("access.log.4"), (500, 500))
    write(path, b"now\n")
    lines, log = resumed(path, stopped)
    assert (lines, log.losses) == ([B, C, D, b"now"], [])


def test_file_that_cannot_be_found_is_a_loss_that_is_told(path, stopped):
    path.unlink()
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert lines == [C]
    told = f"cannot find the rotated file of {path}, which was read to byte {len(A) + 1}: any later lines in it are"
    assert [loss.partition(" lost;")[0] for loss in log.losses] == [told]
    assert log.problem.startswith(told)  # which makes a feed fail that runs once
    followed = Log(str(path), places=stopped)
    news(followed)
    assert (len(followed.losses), followed.problem) == (1, "")


def test_damaged_packed_file_is_a_loss_that_is_told(path, stopped):
    packed = gzip.compress(path.read_bytes() + os.urandom(100_000).hex().encode())
    path.with_name("access.log.1.gz").write_bytes(packed[:-1000])
    path.unlink()
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert lines[0] == B
    assert lines[-1] == C
    assert "the gzip data ends early" in log.problem


def test_another_file_with_the_same_inode_is_not_read_on(path, stopped):
    path.rename(f"{path}.1")
    path.with_name("access.log.1").write_bytes(D + b"\n" + D + b"\n" + D + b"\n")
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert lines == [C]
    assert len(log.losses) == 1


def test_device_may_have_another_number_after_a_restart(path, stopped):
    places = [place._replace(device=place.device + 1) for place in stopped]
    lines, log = resumed(path, places)
    assert (lines, log.losses) == ([B], [])


def test_file_of_which_nothing_was_settled_is_no_loss(path):
    write(path, b"")
    first = Log(str(path))
    assert [place.offset for place in first.places] == [0]
    path.unlink()
    write(path, A + b"\n")
    lines, log = resumed(path, first.places)
    assert (lines, log.losses) == ([A], [])


def test_renamed_file_is_forgotten_by_the_run_after_it_was_read(path, stopped, monkeypatch):
    os.utime(path, (1_000, 1_000))
    path.rename(f"{path}.1")
    write(path, C + b"\n")
    log = Log(str(path), places=stopped)
    assert news(log) == [B, C]
    again = Log(str(path), places=log.places)
    assert news(again) == []
    assert len(again.places) == 1


# --- what is in a file


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_log_in_utf_16_is_refused_once_with_the_reason(path, encoding):
    text = (b"\xff\xfe" if encoding == "utf-16-le" else b"") + "a\nb\n".encode(encoding)
    write(path, text)
    with pytest.raises(LogError, match=f"cannot read {path}: it is in UTF-16 and cannot be followed"):
        Log(str(path))
    assert news(Log(str(path), from_start=True, is_followed=False)) == [b"a", b"b"]
    path.unlink()
    log = Log(str(path))
    write(path, text)
    assert log.read() is None
    assert "it is in UTF-16" in log.problem


def test_packed_log_is_read_once_from_its_start_alone(path):
    path.write_bytes(gzip.compress(b"a\nb"))
    assert news(Log(str(path), from_start=True, is_followed=False)) == [b"a", b"b"]
    with pytest.raises(LogError, match="it is compressed with gzip and cannot be followed"):
        Log(str(path), from_start=True)
    with pytest.raises(LogError, match="use --from-start"):
        Log(str(path), is_followed=False)


def test_packing_that_is_not_read_is_refused_with_the_way_to_read_it(path):
    write(path, b"\x28\xb5\x2f\xfd" + b"x" * 100)
    for is_followed in (True, False):
        with pytest.raises(LogError, match="compressed with zstd and cannot be followed; decompress it first: zstd"):
            Log(str(path), from_start=True, is_followed=is_followed)


def test_file_between_that_is_not_read_is_a_loss_that_is_told(path, stopped):
    os.utime(path, (1_000, 1_000))
    path.rename(f"{path}.2")
    write(path.with_name("access.log.1.zst"), b"\x28\xb5\x2f\xfd" + b"x" * 100)
    write(path, C + b"\n")
    lines, log = resumed(path, stopped)
    assert lines == [B, C]
    assert f"{path}.1.zst: it is compressed with zstd" in log.problem


def test_mark_and_zeros_are_no_part_of_a_line(path):
    log = Log(str(path))
    write(path, b"\xef\xbb\xbfa\nb\n")
    assert news(log) == [b"a", b"b"]
    os.truncate(path, 0)
    write(path, b"\0" * 1_000_000 + b"c\n\0\0d\n")
    assert news(log) == [b"c", b"d"]


def test_packed_bytes_through_a_pipe_are_refused():
    reader, writer = os.pipe()
    os.write(writer, gzip.compress(b"a\n"))
    with pytest.raises(LogError, match="cannot read standard input: it is compressed with gzip"):
        Pipe(reader).read()
    os.close(writer)
    os.close(reader)


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
    with pytest.raises(LogError, match="not a regular file"):
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
    assert "not a regular file" in log.problem
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
