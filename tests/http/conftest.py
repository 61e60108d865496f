"""A real Chromium for the pages, and what holds for each of them."""

import re

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import sync_playwright
from tests.programs import program
from tests.serving import PATIENCE_S

#: Violations of WCAG A and AA are counted, as axe-core finds them.
AXE_OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def chromium():
    where = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens pages; at the end of the test none may have had an error, or have broken its policy."""
    contexts, problems = [], []

    def open_page(url, *, width=1280, scheme="light", trouble=r"$^"):
        trouble += "|ERR_CONNECTION_REFUSED"  # servers end before pages do, which may still ask for something
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, ignore_https_errors=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda said: said.type == "error" and not re.search(trouble, said.text) and problems.append(said.text),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def check_accessible():
    """Lets axe-core look at a page, from outside of its policy."""

    def check_accessible(page):
        page.evaluate(AXE_FILE_PATH.read_text() + "; null")
        found = page.evaluate("options => axe.run(options)", AXE_OPTIONS)
        assert found["passes"]
        assert [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found["violations"]] == []

    return check_accessible
