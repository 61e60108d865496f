"""The report of the benchmarks: rows that were kept, as a table and as charts."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.recording import Recorder, Results, Row
from bench.report import charts, figure, scale_of, summary, table

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def results() -> Results:
    found = Results({"processor": "a fast one"}, {"online": "0.1.0", "Redis": "7.0"})
    record = Recorder(found, "Hits")
    record("online, batches", [2_000_000, 2_200_000, 1_800_000], "hits/s")
    record("Redis", [100_000, 90_000, 120_000], "hits/s")
    record("online, to Redis", [20, 22, 19], "x", at_least=20)
    record("online", [90.0], "bytes/user", at_most=80, group="Memory", note="a | b")
    found.skipped["test_hits[Valkey]"] = "valkey-server is not installed (Debian: valkey)"
    return found


def test_a_target_is_judged_on_the_median() -> None:
    assert Row("", "", (1, 9, 5), "x", at_least=5).met
    assert not Row("", "", (1, 9, 4.9), "x", at_least=5).met
    assert Row("", "", (0.1, 0.9, 0.5), "x", at_most=0.5).met
    assert not Row("", "", (0.1, 0.9, 0.6), "x", at_most=0.5).met
    assert not Row("", "", (1,), "x").has_target


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "new")
    assert Results.read(tmp_path / "new") == results


def test_results_without_rows_can_be_read(tmp_path: Path) -> None:
    Results().write(tmp_path)
    assert Results.read(tmp_path) == Results()


def test_the_table_has_a_line_a_row_under_its_group(results: Results) -> None:
    lines = table(results).splitlines()
    begin = lines.index("| **Hits** | | | | | | |")
    assert lines[begin + 1 : begin + 6] == [
        "| online, batches | 2 M hits/s | 1.8 M to 2.2 M | 3 |  |  |  |",
        "| Redis | 100,000 hits/s | 90,000 to 120,000 | 3 |  |  |  |",
        "| online, to Redis | 20 x | 19 to 22 | 3 | at least 20 | met |  |",
        "| **Memory** | | | | | | |",
        "| online | 90 bytes/user |  | 1 | at most 80 | **missed** | a \\| b |",
    ]


def test_the_report_tells_where_it_was_made_and_what_is_missing(results: Results) -> None:
    results.failed.append("test_wrong")
    report = table(results)
    for line in (
        "- processor: a fast one",
        "- versions: online 0.1.0, Redis 7.0",
        "- test_hits[Valkey]: valkey-server is not installed (Debian: valkey)",
        "- test_wrong",
    ):
        assert line in report.splitlines()


def test_the_summary_counts_targets(results: Results) -> None:
    assert summary(results) == "4 figures; of 2 targets 1 met, 1 missed."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.4384, "0.438"),
        (20.04, "20"),
        (999.4, "999"),
        (999.6, "1,000"),
        (96_149, "96,100"),
        (999_499, "999,000"),
        (999_500, "1 M"),
        (2_163_000, "2.16 M"),
        (12_345_678, "12.3 M"),
    ],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_charts_draw_what_can_be_compared_and_no_ratios(results: Results) -> None:
    svg = ElementTree.fromstring(charts(results.rows))
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"Hits", "Speed, hits/s, logarithmic", "Memory", "Memory, bytes/user"} <= set(texts)
    assert "online, to Redis" not in texts
    assert [dot.get("class") for dot in svg.iter(f"{SVG}circle")] == ["ours mark", "mark"]


def test_charts_stay_inside_their_page(results: Results) -> None:
    svg = ElementTree.fromstring(charts(results.rows))
    page = svg.find(f"{SVG}rect")
    assert page is not None
    assert svg.get("viewBox") == f"0 0 {page.get('width')} {page.get('height')}"


def test_a_scale_is_logarithmic_when_medians_are_far_apart() -> None:
    near = [Row("", "", (10, 30, 20), "us"), Row("", "", (90,), "us")]
    far = [*near, Row("", "", (3_000,), "us")]
    assert scale_of(near).ticks() == [0, 25, 50, 75, 100]
    assert scale_of(far).ticks() == [10, 100, 1_000, 10_000]


def test_a_scale_holds_every_value() -> None:
    for high in (0.07, 0.9, 1, 1.1, 3.3, 99, 100, 101, 87_654):
        scale = scale_of([Row("", "", (high, high / 2), "us")])
        assert scale.at(0) < scale.at(high) <= scale.at(scale.high)
