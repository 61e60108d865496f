"""Logs of real servers: figures that were worked out independently, and odd logs that must do no harm.

The logs are not part of the project. The variable ONLINE_REAL_LOGS names their directory; without it, none of these
tests is collected.
"""

import gzip
import os
import re
from datetime import datetime
from pathlib import Path

import msgpack
import pytest

from online.cli.main import main
from online.cli.survey import survey
from online.logs.hitlog import CsvColumns, CsvParser, LogError, LogReader

FOLDER = Path(os.environ["ONLINE_REAL_LOGS"])


def read(name, parse=None):
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    reader = LogReader(parse)
    return survey(map(msgpack.packb, reader.read(str(path))), top=1), reader


def epoch_ms(utc):
    return round(datetime.fromisoformat(utc + "+00:00").timestamp() * 1000)


@pytest.mark.parametrize(
    ("name", "columns", "skipped", "hits", "users", "urls", "peak", "peak_at", "pages", "top"),
    [
        (
            *("taobao/hour1.csv.gz", CsvColumns(user=0, url=1, time=4), 0),
            *(46_895, 30_837, 40_101, 17_427, "2017-11-26 01:59:40", 16_324, (b"/item/2338453", 10)),
        ),
        (
            *("mountaintel/access.log.gz", None, 2),
            *(105_175, 10_428, 2_677, 15, "2007-08-11 10:18:54", 14, (b"/robots.txt", 2)),
        ),
        (
            *("elastic-apache/apache_logs.gz", None, 1),
            *(9_999, 1_753, 1_498, 59, "2015-05-19 04:05:59", 40, (b"/favicon.ico", 6)),
        ),
        (
            *("basjes-hackers/hackers-access.log.gz", None, 0),
            *(3_456, 520, 41, 11, "2015-10-29 06:28:14", 5, 5),
        ),
    ],
    ids=["taobao", "mountaintel", "elastic-apache", "basjes-hackers"],
)
def test_figures_are_the_known_ones(name, columns, skipped, hits, users, urls, peak, peak_at, pages, top):
    found, reader = read(name, CsvParser(columns, url_prefix=b"/item/").parse if columns else None)
    assert (found.hits, found.users, found.urls) == (hits, users, urls)
    assert (found.peak, found.peak_at_ms, found.peak_pages) == (peak, epoch_ms(peak_at), pages)
    assert top in (found.peak_top[0], found.peak_top[0][1])
    assert (reader.lines, reader.skipped) == (hits + skipped, skipped)


@pytest.mark.parametrize(
    ("name", "lines", "skipped", "first_reason"),
    [
        ("combined_latin1_enc", 200, 31, "not in common or combined format"),
        ("combined_with_errors", 889, 4, "not in common or combined format"),
        ("dreamhost_apache_access", 130, 1, "empty line"),
        ("nginx_access", 1000, 1, "the url has 4,093 bytes, the limit is 2,048"),
        ("nginx_custom_date", 20, 20, "the date is not written like [10/Oct/2000:13:55:36 -0700]"),
    ],
)
def test_odd_log_is_survived_and_what_is_skipped_is_counted(name, lines, skipped, first_reason):
    found, reader = read(f"odd-logs/{name}.log.gz")
    assert (reader.lines, reader.skipped) == (lines, skipped)
    assert reader.samples[0].reason == first_reason
    assert (found.hits if found else 0) == lines - skipped


def test_every_byte_of_a_damaged_log_before_the_damage_is_read(tmp_path):
    path = FOLDER / "odd-logs" / "nginx_access.log.gz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    whole = gzip.decompress(path.read_bytes())
    cut = tmp_path / "cut.gz"
    cut.write_bytes(path.read_bytes()[:-100])
    reader = LogReader()
    with pytest.raises(LogError, match="is damaged after line"):
        list(reader.read(str(cut)))
    assert 950 < reader.lines < whole.count(b"\n")


FORMATS_UNDERSTOOD = {
    "common.log": (b"theuser", b"/", "2012-02-10 21:42:07"),
    "common.log.bz2": (b"theboss", b"/", "2012-02-19 23:42:07"),
    "common.log.gz": (b"admin", b"/form", "2012-02-10 23:42:07"),
    "icecast2.log": (b"theuser", b"/", "2012-02-10 21:42:07"),
    "ncsa_extended.log": (b"theuser", b"/", "2012-02-10 21:42:07"),
    "ovh.log": (b"theuser", b"/", "2012-02-10 21:42:07"),
}


def test_log_in_another_format_gives_no_hit_with_a_wrong_user_or_time():
    folder = FOLDER / "formats"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    found = {}
    for path in sorted(folder.iterdir()):
        hits = list(LogReader().read(str(path)))
        if hits and path.name != "logs_to_tests.log":
            found[path.name] = hits
    expected = {name: [(user, url, epoch_ms(utc))] for name, (user, url, utc) in FORMATS_UNDERSTOOD.items()}
    assert found == expected


UNDERSTOOD = {
    "caddy_json.log": ("guest", "/beta/", "2023-12-23 23:17:54"),
    "common.log.bz2": ('member "theboss"', "/", "2012-02-19 23:42:07"),
    "common.log.gz": ('member "admin"', "/form", "2012-02-10 23:42:07"),
    "static_ignores.log": ('member "theuser"', "/", "2012-02-10 21:41:07"),
    "traefik_json.log": ("bot", "/my/app/auth", "2023-08-11 11:39:21"),
}  # fmt: skip


def test_real_log_is_understood_or_refused_but_never_wrongly(capsys):
    shown = {}
    logs = [path for name in ("formats", "odd-logs") for path in sorted((FOLDER / name).glob("*"))]
    for path in logs:
        code = main(["feed", "--check", str(path)])
        out = capsys.readouterr().out
        [(lines, bad)] = re.findall(r"([\d,]+) lines?: .* ([\d,]+) not understood$", out, re.MULTILINE)
        assert code == (1 if lines == bad else 0)
        shown[path.name] = re.findall(r"^  ((?:member|guest|bot).*)$", out, re.MULTILINE)
    for name in ("combined_latin1_enc", "combined_with_errors", "dreamhost_apache_access", "nginx_access"):
        assert shown.pop(f"{name}.log.gz")
    shown.pop("logs_to_tests.log")
    found = {name: views for name, views in shown.items() if views}
    assert found.keys() == UNDERSTOOD.keys()
    for name, (who, url, when) in UNDERSTOOD.items():
        assert len(found[name]) == 1
        assert found[name][0].startswith(who)
        assert f' on "{url}" at {when}' in found[name][0]
