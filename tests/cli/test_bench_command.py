"""`online bench`: what it does to a server, when it asks first, and what it shows."""

import json

import pytest
from tests.serving import server_process

from online.cli import bench
from online.cli.bench import Report, Times, picture, url_of
from online.cli.lanes import Lane, Load
from online.cli.main import main
from online_client import Client
from online_client.address import parse_address

SMALL = ("--users", "50", "--pages", "5", "--for", "0.2s")


def run(capsys, server, *options):
    code = main(["bench", "--url", server.url, *SMALL, *options])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    "rates", [[], ["--most"], ["--hits", "0"], ["--questions", "0"]], ids=["rates", "most", "no hits", "no questions"]
)
def test_a_server_is_loaded_and_left_empty(server, capsys, rates):
    code, out, err = run(capsys, server, "--json", "--yes", *rates)
    assert code == 0, err
    told = json.loads(out)
    assert bool(told["hits"]["answered"]) == (rates != ["--hits", "0"])
    assert bool(told["questions"]["answered"]) == (rates != ["--questions", "0"])
    latencies = list(told["hits"]["latency_s"].values()) or list(told["questions"]["latency_s"].values())
    assert latencies == sorted(latencies)
    with Client(f"{server.url}/bench") as client:
        assert client.count() == 0
        assert client.peak().people == 50


def test_few_hits_come_in_small_messages_so_that_their_rate_is_right(server, capsys):
    options = ["--url", server.url, "--site", "few", "--users", "10", "--hits", "50", "--questions", "50", "--yes"]
    assert main(["bench", *options, "--for", "0.4s", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["hits"]["answered"] == 20
    assert 1 <= figures["questions"]["answered"] <= 21
    assert main(["bench", *options, "--for", "0.4s"]) == 0
    assert "hits by 20" in capsys.readouterr().out


def test_who_is_online_on_other_sites_is_asked_for_and_left_alone(capsys, monkeypatch):
    with server_process() as server, Client(server.url) as client:
        client.hit("ada", "/a")
        code, out, err = run(capsys, server)
        assert (code, out) == (1, "")
        assert "serves other sites with 1 user; add --yes to load it anyway" in err
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        for answer, code in (("n", 1), ("y", 0)):
            monkeypatch.setattr("builtins.input", lambda asked, answer=answer: answer)
            assert run(capsys, server)[0] == code
        assert client.seen("ada")[0].url == "/a"
        assert client.count() == 1


def test_a_server_that_nobody_uses_is_not_asked_about(capsys):
    with server_process("--token", "of-the-house") as server:
        url = f"online://:of-the-house@{server.address}"
        assert main(["bench", "--url", url, *SMALL]) == 0
        assert "hits by 100" in capsys.readouterr().out
        with Client(f"{url}/bench") as client:
            client.hit("bench-0", "/")
        assert main(["bench", "--url", url, *SMALL]) == 1
        assert "people on its site bench itself" in capsys.readouterr().err


def test_users_are_taken_offline_also_if_the_run_fails(server, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.lanes, "run", fail)
    assert main(["bench", "--url", server.url, *SMALL, "--yes", "--site", "another"]) == 130
    with Client(f"{server.url}/another") as client:
        assert client.count() == 0
        assert client.peak().people == 50


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--url", "what"], 2), (["--hits", "0", "--questions", "0"], 2), (["--url", "online://127.0.0.1:1"], 1)],
    ids=["address", "nothing", "no server"],
)
def test_what_cannot_be_run_is_an_error(options, code, capsys):
    assert main(["bench", *options]) == code
    assert capsys.readouterr().err.startswith("online bench: ")


@pytest.mark.parametrize(
    "url",
    [
        "online://a.example:1/bench",
        "onlines://:t%2Fk@a.example:8989/bench?ca=%2Fc",
        "online://[::1]:8989/bench",
        "online+unix://:t@/run/a%20b.sock?site=bench",
    ],
)
def test_the_url_of_the_bench_has_everything_of_the_given_one(url):
    assert url_of(parse_address(url), "bench") == url


def test_a_report_names_the_generator_if_it_was_the_limit():
    times = Times.of([Lane([], 1, [0.001, 0.003])])
    assert times == ([0.001, 0.003],)
    for busy, is_limit in ((0.2, False), (0.95, True)):
        lines = list(Report("online://a", 10, Load(2.0, busy), times, Times([])).lines())
        assert any("it was the limit" in line for line in lines) == is_limit
        assert lines[3].split() == ["hits", "by", "10", "10", "1.0", "ms", *["3.0", "ms"] * 4]


def test_the_picture_has_a_bar_for_each_power_of_two():
    rows = [line.split() for line in picture([0.0001] * 80 + [0.0004])]
    assert [(row[2], row[3], row[-1]) for row in rows] == [("128", "us", "80"), ("256", "us", "0"), ("512", "us", "1")]
    assert rows[0][4] == "█" * 40
    assert rows[2][4] == "▏"
