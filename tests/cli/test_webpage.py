"""`online report --html`: how long users stay, which browsers they have, and the page that shows it."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import msgpack
import pytest

from online.cli import report
from online.cli.arguments import Parser
from online.cli.browsers import browser_and_system
from online.cli.main import UNREAD, main
from online.cli.stays import LENGTHS_S
from online.cli.survey import survey
from online.errors import ConfigError

LINE = '%s - %s [01/Mar/2024:12:%02d:00 +0000] "GET %s HTTP/1.1" 200 5 "-" "%s"\n'
NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"


def log(path, *hits):
    path.write_text("".join(LINE % each for each in hits))
    return str(path)


@pytest.fixture
def small(tmp_path):
    hits = [
        ("192.0.2.1", "ada", 0, "/a", FIREFOX),
        ("192.0.2.2", "-", 3, "/a", FIREFOX),
        ("192.0.2.1", "ada", 5, "/b", "-"),
    ]
    return log(tmp_path / "access.log", *hits)


def figures_of(text):
    [found] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def stays_of(*hits, window_s=60):
    pieces = (msgpack.packb((user, b"/", NOON_MS + 1000 * second + 999)) for user, second in hits)
    return survey(pieces, window_s=window_s).stays


def test_a_stay_lasts_from_its_first_hit_to_its_last_until_the_user_is_offline():
    found = stays_of((b"ada", 0), (b"kim", 5), (b"ada", 59), (b"kim", 65), (b"ada", 118), (b"ada", 178))
    assert (found.number, found.hits, found.single) == (4, 6, 3)
    assert (found.median_s, found.average_s) == (118, 118)
    assert found.by_length == [0, 0, 1, 0, 0, 0, 0, 0]


def test_hits_out_of_order_do_not_shorten_a_stay():
    assert stays_of((b"ada", 0), (b"ada", 50), (b"ada", 20), (b"ada", 100)).median_s == 100


@pytest.mark.parametrize("lengths", [[3], [3, 8], [1, 10, 11, 59, 60, 61, 5000, 20_000]], ids=len)
def test_stays_are_counted_by_length(lengths):
    hits = sorted((second, b"%d" % n) for n, length in enumerate(lengths) for second in (0, length))
    found = stays_of(*((user, second) for second, user in hits), window_s=86_400)
    bounds = [0, *LENGTHS_S, 10**9]
    assert found.by_length == [sum(low < length <= high for length in lengths) for low, high in pairwise(bounds)]
    assert found.median_s == sorted(lengths)[(len(lengths) - 1) // 2]
    assert found.average_s == sum(lengths) / len(lengths)


@pytest.mark.parametrize(
    ("agent", "browser", "system"),
    [
        ("", "not told", "not told"),
        ("-", "not told", "not told"),
        ("Lynx/2.9", "other", "other"),
        (FIREFOX, "Firefox", "Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36", "Chrome", "Windows"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge", "Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile Safari/604.1",
         "Safari", "iOS"),
        ("Mozilla/5.0 (Linux; Android 14; SM-S901B) AppleWebKit/537.36 SamsungBrowser/25.0 Chrome/121.0 Safari/537.36",
         "Samsung Internet", "Android"),
        ("Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer", "Windows"),
    ],
    ids=range(9),
)  # fmt: skip
def test_browsers_and_systems_are_named(agent, browser, system):
    assert browser_and_system(agent.encode()) == (browser, system)


def test_the_figures_hold_kinds_stays_and_browsers(small, capsys):
    assert main(["report", small, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kinds"] == {
        "members": {"hits": 2, "users": 1},
        "guests": {"hits": 1, "users": 1},
        "bots": {"hits": 0, "users": 0},
    }
    assert (found["stays"]["number"], found["stays"]["single"], found["stays"]["median_s"]) == (2, 1, 300)
    assert found["browsers"] == {"Firefox": 2, "not told": 1}
    assert main(["report", small, "--json", "--all-lines"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kinds"], found["systems"]) == (None, {"Linux": 2, "not told": 1})


def test_the_page_holds_all_figures_and_lets_only_its_own_script_run(small, tmp_path, capsys):
    assert main(["report", small, "--html", str(tmp_path / "o.html")]) == 0
    assert capsys.readouterr().out.startswith("3 page views by 2 visitors")
    text = (tmp_path / "o.html").read_text()
    data = figures_of(text)
    assert data["nouns"] == {"hit": "page view", "user": "visitor", "url": "page"}
    [told] = data["reports"]
    assert (told["title"], told["hits"], told["peak"]["people"]) == ("access.log", 3, 2)
    assert sum(hits for _, _, hits in told["points"]) == 3
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    for kind, tag in (("script", r'<script type="module">'), ("style", "<style>")):
        [content] = re.findall(rf"{tag}(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert re.findall(r'(?:src|href)="([^"]*)"', text.partition("<script")[0]) == ["#main"]
    assert "import " not in re.sub(r"//.*", "", text.partition('type="module">')[2])


def test_each_name_has_the_figure_of_the_other_log_be_it_among_its_top_or_not(tmp_path, capsys):
    def hits(*urls):
        return [(f"192.0.2.{n}", "-", n, url, FIREFOX) for n, url in enumerate(urls)]

    new = log(tmp_path / "new.log", *hits("/a", "/a", "/a", "/b", "/b", "/gone"))
    old = log(tmp_path / "old.log", *hits("/x", "/x", "/b", "/x", "/a"))
    assert main(["report", new, "--html", "-", "--compare", old, "--top", "3"]) == 0
    told, other = figures_of(capsys.readouterr().out)["reports"]
    assert told["top"] == [["/a", 3, 1], ["/b", 2, 1], ["/gone", 1, 0]]
    assert told["peak"]["top"] == [["/a", 3, 1], ["/b", 2, 1], ["/gone", 1, 0]]
    assert other["top"] == [["/x", 3], ["/a", 1], ["/b", 1]]
    assert main(["report", new, "--html", "-", "--compare", old, "--top", "1"]) == 0
    assert figures_of(capsys.readouterr().out)["reports"][0]["top"] == [["/a", 3, 1]]


def test_files_are_written_although_nobody_reads_the_output(small, tmp_path):
    for options in ([], ["--csv", "-"]):
        read, write = os.pipe()
        os.close(read)
        target = tmp_path / "o.html"
        command = [sys.executable, "-um", "online", "report", small, *options, "--html", target]
        ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert (ended.returncode, ended.stderr) == (UNREAD, b"")
        assert len(figures_of(target.read_text())["reports"]) == 1
        target.unlink()


def test_the_page_to_standard_output_is_all_of_it(small, capsys):
    assert main(["report", small, "--html", "-", "--compare", small]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("<!doctype html>")
    assert len(figures_of(out)["reports"]) == 2
    assert err == ""


def test_hostile_names_are_data(tmp_path, capsys):
    evil = "/</script><script>alert(1)</script><!--&quot;\\u2028"
    path = log(tmp_path / '<b onclick="x">&.log', ("192.0.2.1", "<img/src=x>", 0, evil, "</script>Firefox/1"))
    assert main(["report", path, "--html", "-"]) == 0
    out = capsys.readouterr().out
    assert out.count("</script>") == 2
    assert "alert(1)" not in out.replace("\\u003cscript>alert(1)", "")
    assert "<title>&lt;b onclick=&quot;x&quot;&gt;&amp;.log" in out
    clicks = tmp_path / "clicks.csv"
    clicks.write_bytes(b"ada,/\xff</script>,1709294400\n")
    assert main(["report", str(clicks), "--format", "csv", "--html", "-"]) == 0
    [told] = figures_of(capsys.readouterr().out)["reports"]
    assert told["top"] == [[{"base64": base64.b64encode(b"/\xff</script>").decode()}, 1]]


def test_logs_to_compare_are_named_when_they_cannot_be(small, tmp_path, capsys):
    out = str(tmp_path / "o.html")
    with pytest.raises(ConfigError, match="--compare needs --html FILE"):
        run_report(small, "--compare", small)
    with pytest.raises(ConfigError, match="--html and a log are the same file"):
        run_report(small, "--compare", out, "--html", log(tmp_path / "o.html"))
    (tmp_path / "o.html").unlink()
    assert main(["report", small, "--compare", "missing", "--html", out]) == 1
    assert capsys.readouterr().err == "online report: cannot read missing: No such file or directory\n"
    (tmp_path / "bad").write_text("no line\n")
    assert main(["report", small, "--compare", str(tmp_path / "bad"), "--html", out]) == 1
    assert "no page views in bad; set the format of the log with --format" in capsys.readouterr().err
    assert len(figures_of((tmp_path / "o.html").read_text())["reports"]) == 1


def run_report(*arguments):
    parser = Parser("online report")
    report.add_arguments(parser)
    return report.run(parser.parse_args(arguments))
