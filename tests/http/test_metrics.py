"""/metrics is OpenMetrics, and tells every figure of INFO that is not left out for a reason."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.http.browsing import jumping, web
from tests.serving import LOCAL

from online.http import metrics
from online.pieces import whole
from online.serve import info
from online.serve.meter import Histogram


def families(body):
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(family, **labels):
    [sample] = [s for s in family.samples if s.labels == labels and not s.name.endswith(("_created", "_bucket"))]
    return sample.value


@jumping
async def test_the_page_is_openmetrics(tmp_path):
    async with web(state=tmp_path / "state", syslog=(LOCAL,)) as site:
        browser = site.join()
        await browser.post("/api/v1/hits", [["a", "/"], ["b", "/", None, "guest"], ["c", "/", None, "bot"], ["", "/"]])
        await browser.post("/api/v1/hits?site=%22%5C%0A%FF", [["a", "/"]])
        await browser.get("/api/v1/count")
        answer = await browser.get("/metrics")
        assert answer.headers["content-type"] == metrics.CONTENT_TYPE.decode()
        found = families(answer.body)
        assert value(found["online_hits"], reason="accepted") == 4
        assert value(found["online_hits"], reason="refused") == 1
        assert value(found["online_people"], site="default", kind="member") == 1
        assert value(found["online_people"], site="default", kind="bot") == 1
        assert value(found["online_people"], site='"\\\\\n\\xff', kind="member") == 1
        assert value(found["online_people_peak"], site="default") == 2
        assert value(found["online_limit_reached"], reason="max_connections") == 0
        assert found["online_question_seconds"].type == "histogram"
        assert found["online_syslog_lines"].type == "counter"
        assert all(family.documentation for family in found.values())
        labels = {f"online_{metric.name}": {*its_labels} for metric, its_labels in metrics.LABELS.items()}
        for name, family in found.items():
            told = {label for sample in family.samples for label in sample.labels}
            assert told == labels.get(name, set()) or not family.samples


@jumping
async def test_no_two_sites_have_the_same_label():
    names = (b"z\xff", rb"z\xff", rb"z\\xff", b"z\n", rb"z\n", b"z\\", b"z", b'z"', rb"z\"", "z\N{POUND SIGN}".encode())
    async with web() as site:
        for n, name in enumerate(names, 1):
            for user in range(n):
                site.server.sites.open(name).hit(b"%d" % user, b"/", now_ms=site.server.clock.now_ms())
        people = families((await site.join().get("/metrics")).body)["online_people"]
        found = {each.labels["site"]: each.value for each in people.samples if each.labels["kind"] == "member"}
        assert sorted(found.values()) == [0, *range(1, len(names) + 1)]  # and the default one


@jumping
async def test_a_page_as_it_is_by_default_is_openmetrics():
    async with web() as site:
        assert "online_people" in families((await site.join().get("/metrics")).body)


@jumping
async def test_every_figure_of_info_is_a_metric_or_left_out(tmp_path):
    async with web(state=tmp_path / "state", syslog=(LOCAL,)) as site:
        shared, now_ms = site.server.verbs, site.server.clock.now_ms()
        for section in {*info.SECTIONS, *shared.sections}:
            left_out = metrics.LEFT_OUT.get(section, set())
            for name in whole(info.rows_of(shared, section, now_ms)):
                if left_out is None or name in left_out or name.startswith("site_"):
                    continue
                metric, reason = metrics.metric_of(section, name)
                assert metric is not None, f"INFO {section} has {name}: give it a row in METRICS or LEFT_OUT"
                assert reason or metric.name != "hits"


def test_nothing_is_left_out_that_is_told():
    for section, name in metrics.METRICS:
        left_out = metrics.LEFT_OUT.get(section, set())
        assert left_out is not None
        assert name not in left_out


@jumping
async def test_only_the_largest_sites_have_metrics(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_SITES", 2)
    async with web() as site:
        browser = site.join()
        for n in range(4):
            await browser.post(f"/api/v1/hits?site=s{n}", [[f"u{m}", "/"] for m in range(n + 1)])
        found = families((await browser.get("/metrics")).body)
        assert {sample.labels["site"] for sample in found["online_people"].samples} == {"s2", "s3"}
        assert value(found["online_sites"]) == 5


@pytest.mark.parametrize("took_s", [0.0, 0.0001, 0.3, 99.0])
def test_a_time_is_in_each_bucket_that_is_long_enough(took_s):
    histogram = Histogram()
    histogram.add(took_s)
    assert [n for bound, n in histogram.cumulated()] == [took_s <= float(bound) for bound, _ in histogram.cumulated()]


@jumping
async def test_turns_of_the_reactor_are_measured():
    async with web() as site:
        site.server.verbs.delays.took("turn", 2_000_000)
        turns = families((await site.join().get("/metrics")).body)["online_turn_seconds"]
        buckets = {sample.labels["le"]: sample.value for sample in turns.samples if "le" in sample.labels}
        assert (buckets["0.001024"], buckets["0.002048"], buckets["+Inf"]) == (0, 1, 1)
