"""What stands in deploy/ asks for metrics that there are, with labels that they have."""

import json
import re
from pathlib import Path

import pytest
from tests.http.browsing import jumping, web
from tests.serving import LOCAL

from online.http import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"


#: What a server without a bus does not have.
OF_A_BUS = {
    f"online_{metric.name}" + "_total" * (metric.kind == "counter")
    for (section, _), (metric, _) in metrics.METRICS.items()
    if section == "bus"
}


def expressions():
    """All questions of the dashboard and of the alerts, with where they stand."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"].removeprefix("label_values(")
    alerts = (DEPLOY / "alerts.yml").read_text()
    names = re.findall(r"alert: (\w+)\n +expr: (.*)$", alerts, re.MULTILINE)
    assert len(names) == alerts.count("- alert:")
    yield from names


@jumping
async def test_every_metric_that_is_asked_for_is_there(tmp_path):
    async with web(state=tmp_path / "state", syslog=(LOCAL,)) as site:
        browser = site.join()
        await browser.get("/api/v1/count")
        page = (await browser.get("/metrics")).body.decode()
    there = set(re.findall(r"^(online_\w+)[ {]", page, re.MULTILINE)) | OF_A_BUS
    for where, asked in expressions():
        for name in re.findall(r"online_\w+", asked):
            assert name in there, f"{where} asks for {name}"


@pytest.mark.parametrize("where_asked", list(expressions()), ids=lambda each: each[0])
def test_reasons_that_are_asked_for_are_given(where_asked):
    _, asked = where_asked
    known = {reason for _, reason in metrics.METRICS.values()} | {
        "not_understood",
        "slow",
        "frame_timeout",
        "auth_timeout",
    }
    for reasons in re.findall(r'reason[!=]~?"([^"]+)"', asked):
        assert set(reasons.split("|")) <= known


def test_panels_do_not_overlap():
    places = set()
    for panel in json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert max(x for x, _ in cells) < 24
        places |= cells
