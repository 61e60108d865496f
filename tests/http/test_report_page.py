"""The page of `online report --html` in a real Chromium, opened as a file."""

import re

import pytest
from playwright.sync_api import expect

from online.cli.main import main

pytestmark = pytest.mark.xdist_group("chromium")

LINE = (
    '198.51.100.%d - - [%02d/Mar/2024:%02d:%02d:00 +0000] "GET %s HTTP/1.1" 200 5 "https://a.example/<b>"'
    ' "Mozilla/5.0 (X11; Linux) Firefox/130.0"\n'
)
EVIL = "/<img/src=x/onerror=alert(1)></script><script>alert(2)</script>\u202e"


def log_of(path, day, people):
    """A log of a day: each of the people comes three times, with five minutes between."""
    views = [(n % 250, day, 9 + n % 3, 5 * again, f"/p{n % 4}") for n in range(people) for again in range(3)]
    evil = (251, day, 11, 30, EVIL)
    path.write_text("".join(LINE % view for view in [*sorted(views, key=lambda view: view[2:4]), evil]))
    return str(path)


@pytest.fixture
def page_of(tmp_path, open_page, capsys):
    def page_of(*arguments, **options):
        target = tmp_path / "report.html"
        assert main(["report", *arguments, "--html", str(target)]) == 0
        capsys.readouterr()
        return open_page(target.as_uri(), **options)

    return page_of


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")], ids=["wide", "phone"])
def test_a_report_is_shown_from_a_file_alone(tmp_path, page_of, check_accessible, width, scheme):
    page = page_of(log_of(tmp_path / "access.log", 1, 40), width=width, scheme=scheme)
    expect(page).to_have_title("access.log - online report")
    expect(page.locator("#peak")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator("#totals")).to_contain_text("Page views121")
    titles = page.locator("h2").all_inner_texts()
    assert {"Top pages", "Top pages at the peak", "How long people stay", "By day", "Browsers", "Referrers"} < set(
        titles
    )
    stays = page.locator("section", has_text="How long people stay")
    expect(stays).to_contain_text("3 min to 10 min")
    expect(page.locator("section", has_text="Browsers")).to_contain_text("Firefox100 %")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    check_accessible(page)


def test_the_chart_shows_people_and_page_views(tmp_path, page_of):
    page = page_of(log_of(tmp_path / "access.log", 1, 40))
    chart = page.get_by_role("slider")
    expect(chart).to_have_attribute("aria-label", re.compile("^Most people online, lowest"))
    page.get_by_role("button", name="Page views").click()
    expect(chart).to_have_attribute("aria-label", re.compile("^Page views, each .* highest"))
    chart.focus()
    page.keyboard.press("Home")
    assert chart.get_attribute("aria-valuetext").startswith("1 Mar 2024, 09:")
    assert chart.get_attribute("aria-valuetext").endswith(" page views")


@pytest.mark.parametrize("width", [1280, 375])
def test_times_of_the_chart_are_round(tmp_path, page_of, width):
    line = LINE % (1, 1, 10, 4, "/")

    def times_of(*whens):
        log = tmp_path / "access.log"
        log.write_text("".join(line.replace("01/Mar/2024:10:04", when) for when in whens))
        return page_of(str(log), width=width).locator("text.time").all_text_contents()

    assert times_of("01/Mar/2024:08:00") == ["08:00:00"]
    wide = width == 1280
    assert times_of("01/Mar/2024:10:04", "01/Mar/2024:14:31") == (
        ["11:00", "12:00", "13:00", "14:00"] if wide else ["12:00", "14:00"]
    )
    assert times_of("01/Mar/2024:10:04", "03/Mar/2024:14:31") == (
        ["12:00", "2 Mar 2024", "12:00", "3 Mar 2024", "12:00"] if wide else ["2 Mar 2024", "3 Mar 2024"]
    )
    assert times_of("20/Dec/2023:10:04", "01/Mar/2024:00:00") == ["Jan 2024", "Feb 2024", "Mar 2024"]
    assert times_of("20/Dec/2019:10:04", "01/Mar/2024:00:00") == (
        ["2020", "2021", "2022", "2023", "2024"] if wide else ["2020", "2022", "2024"]
    )


def test_two_logs_stand_side_by_side(tmp_path, page_of, check_accessible):
    page = page_of(log_of(tmp_path / "new.log", 9, 40), "--compare", log_of(tmp_path / "old.log", 2, 20))
    expect(page.locator("#chart-note")).to_have_text("Dashed: old.log, moved by 7 days.")
    expect(page.locator(".beside")).to_have_count(1)
    expect(page.locator("#totals tr >> nth=2")).to_have_text("Page views12161+98 %")
    expect(page.locator("section", has_text="By day").locator("tbody tr")).to_have_text("2024-03-0912161")
    top = page.locator("section", has_text="Top pages").first
    expect(top.locator("th")).to_have_text(["Page", "page views", "old.log"])
    expect(top.locator("tr", has_text="/p0")).to_have_text("/p03015")
    check_accessible(page)


def test_hostile_names_are_shown_as_text(tmp_path, page_of):
    page = page_of(log_of(tmp_path / "<img src=x onerror=alert(3)>.log", 1, 2))
    expect(page.locator("#title")).to_have_text("<img src=x onerror=alert(3)>.log")
    top = page.locator("section", has_text="Top pages").first
    expect(top).to_contain_text("<img/src=x/onerror=alert(1)></script><script>alert(2)</script>")
    assert page.locator("img").count() == 0
