"""Draws a frame of `online top` as SVG, of a server that runs: python -m docs.site.picture > docs/images/top.svg

Not here: the layout of a frame (online.cli.top_screen).
"""

import io
import re
import sys
import time

from rich.console import Console

from online.cli.top import Watcher
from online.cli.top_screen import View, render
from online_client import Client

COLUMNS, LINES = 96, 26

#: rich's own frame loads a font from the web. It draws a cell 12.2 wide and 24.4 high.
FRAME = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {12.2 * COLUMNS + 18:.0f} {24.4 * LINES + 24:.0f}">
<style>text {{{{ font: 20px ui-monospace, Menlo, Consolas, monospace; white-space: pre }}}} {{styles}}</style>
<rect width="100%" height="100%" rx="8" fill="#292929"/>
<g transform="translate(9, 9)">{{backgrounds}}{{matrix}}</g>
</svg>
"""


def main() -> None:
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, height=LINES, force_terminal=True)
    with Client() as client:
        watcher, view = Watcher(client), View(interval_s=2)
        watcher.look(view, LINES)
        time.sleep(view.interval_s)  # hits a second are counted from one frame to the next
        watcher.look(view, LINES)
    console.print(render(watcher.snapshot, view, LINES))
    picture = console.export_svg(title="", code_format=FRAME, unique_id="top")
    sys.stdout.write(re.sub(r' clip-path="[^"]*"', "", picture))


if __name__ == "__main__":
    main()
