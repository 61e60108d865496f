"""`--jobs`: several processes parse, and the result is that of one, to the byte."""

import gzip
import random
from functools import partial

import msgpack
import pytest

from online.cli.jobs import Jobs
from online.cli.main import main
from online.errors import OnlineError
from online_client import BatchResult

AGENTS = [f"Mozilla/5.0 (X11; Linux) {name}/{n}" for name in ("Firefox", "Chrome", "Odd") for n in range(9)]
ODD = [
    b"nonsense", b"", b"\xff\xfe\x00", b'x - - [01/Mar/2024:12:00:00 +0000] "GET /\xff" 200 5', b"y" * 70_000,
    b"user,url,time", b'{"time": 1709294400, "user": "json", "url": "/j"}', b"{",
]  # fmt: skip


def odd_log(seed, n_lines=6_000):
    """Lines of a site, most of them usual; what is odd comes anywhere, ties of all counts as well."""
    dice = random.Random(seed)
    lines = [b"user,url,time"]
    for second in range(n_lines):
        user = dice.choice(["-", "-", f"user{dice.randrange(300)}"])
        line = (
            f"192.0.2.{dice.randrange(250)} - {user} [01/Mar/2024:{12 + second // 3600}:{second // 60 % 60:02}:"
            f'{second % 60:02} +0000] "GET /{dice.choice("abcdefgh")}{dice.choice(["", ".css", "?q=1"])} HTTP/1.1"'
            f" {dice.choice([200, 200, 304, 404, 500])} 5"
            f' "https://{dice.choice("xyz")}.example/" "{dice.choice(AGENTS)}"'
        )
        lines.append(dice.choice(ODD) if dice.random() < 0.02 else line.encode())
    return b"\n".join(lines)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(odd_log(1), 1))
    return str(path)


@pytest.mark.parametrize("options", [[], ["--all-lines"], ["--format", "combined", "--top", "500"]], ids=" ".join)
def test_a_report_is_the_same_to_the_byte(log, tmp_path, capsys, options):
    key = [] if "--all-lines" in options else ["--guest-key", str(tmp_path / "key")]

    def told(*jobs):
        files = [tmp_path / f"out.{kind}" for kind in ("html", "csv", "svg")]
        outputs = [each for file in files for each in (f"--{file.suffix[1:]}", str(file))]
        assert main(["report", log, "nowhere", *options, *key, *outputs, *jobs]) == 1
        return capsys.readouterr(), [file.read_bytes() for file in files]

    alone = told()
    assert "Not understood, the first 5" in alone[0].out
    assert told("--jobs", "3") == alone


def test_a_log_that_is_cut_off_is_reported_up_to_there(log, tmp_path, capsys):
    damaged = tmp_path / "damaged.gz"
    whole = (tmp_path / "access.log.gz").read_bytes()
    damaged.write_bytes(whole[: len(whole) * 2 // 3])

    def told(*jobs):
        assert main(["report", str(damaged), "--json", *jobs]) == 1
        return capsys.readouterr()

    assert told("--jobs", "2") == told()


class Recorder:
    """A server that takes all hits."""

    address = "here"

    def __init__(self):
        self.hits = []

    def call(self, request):
        hits = msgpack.unpackb(request.params)
        self.hits += hits
        return BatchResult(len(hits), 0, 0, None)

    def close(self):
        pass


def test_a_feed_sends_the_same_hits(log, tmp_path, monkeypatch, capsys):
    def sent(*jobs):
        recorder = Recorder()
        monkeypatch.setattr("online.cli.feed.Client", lambda *args, **options: recorder)
        assert main(["feed", log, "--from-start", "--once", "--guest-key", str(tmp_path / "key"), *jobs]) == 0
        return recorder.hits, capsys.readouterr().err.partition("; the last hit")[0]

    hits, told = sent()
    assert len(hits) > 2_000
    assert "6,001 lines" in told
    assert sent("--jobs", "2") == (hits, told)


def test_results_come_in_order():
    with Jobs(3, partial, pow, 2) as jobs:
        assert list(jobs.map(range(20))) == [2**n for n in range(20)]
        assert list(jobs.map([])) == []
        assert list(jobs.put(5)) == []
        assert list(jobs.rest()) == [32]


def test_what_the_pieces_raise_comes_after_the_results():
    def pieces():
        yield from (1, 2, 3)
        raise OnlineError("torn")

    with Jobs(2, partial, pow, 3) as jobs:
        results = jobs.map(pieces())
        assert [next(results) for _ in range(3)] == [3, 9, 27]
        with pytest.raises(OnlineError, match="torn"):
            next(results)


def test_a_process_that_ends_is_told():
    with Jobs(1, partial, pow, 2) as jobs:
        jobs._workers[0].kill()
        with pytest.raises(OnlineError, match="a process of --jobs has ended before its work, with exit code -9"):
            list(jobs.map(range(3)))


def test_no_process_is_left():
    with Jobs(2, partial, pow, 2) as jobs:
        assert list(jobs.map([3])) == [8]
        workers = list(jobs._workers)
    assert [worker.returncode for worker in workers] == [-9, -9]


def test_a_worker_ends_with_its_pipe():
    with Jobs(1, partial, pow, 2) as jobs:
        assert list(jobs.map([3])) == [8]
        [worker] = jobs._workers
        worker.stdin.close()
        assert worker.wait() == 0
