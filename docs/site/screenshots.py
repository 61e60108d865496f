"""Takes the pictures of the dashboard of a server that runs:

    python -m docs.site.screenshots http://127.0.0.1:8990/ docs/images

The demo has figures worth a picture after half an hour: `online demo`. Not here: what is on the page
(online/http/pages).
"""

import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

PAGE = "/forum/1"

#: How long trends need to fill.
TRENDS_MS = 60_000


def main(address: str, folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take(browser, address, folder / "dashboard.png", 1280, "light")
        take(browser, address, folder / "dashboard-phone.png", 375, "dark")
        browser.close()


def take(browser: Browser, address: str, target: Path, width: int, scheme: Literal["light", "dark"]) -> None:
    page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme, locale="en-GB")
    page.goto(f"{address}#page={PAGE}")
    page.wait_for_timeout(TRENDS_MS)
    page.screenshot(path=target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
