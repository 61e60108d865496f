"""The documentation as a site, made by Sphinx: `make docs` builds it in build/site. It takes no network to be read.

Pages are Markdown as a code host shows it, in the layout of the repository, so that a link leads to the same place here
and there. The menu is all that the site adds. A page that is missing in it is an error.
"""

from typing import Any

#: Captions of the menu, and the pages below each.
NAVIGATION = {
    "Begin": """
        docs/tutorial
        docs/concepts
        docs/configuration
        docs/comparison
    """,
    "Web servers": """
        docs/nginx
        docs/apache
        docs/haproxy
        docs/caddy
        docs/log-stream
    """,
    "Applications": """
        docs/django
        docs/flask
        docs/fastapi
        client/README
        docs/php
        docs/ruby
        docs/node
    """,
    "Browsers": """
        docs/widget
        docs/beacon
        docs/push
        docs/http
    """,
    "Operations": """
        docs/operations
        docs/running
        docs/systemd
        docs/containers
        docs/persistence
        docs/scale
        docs/gateway
        docs/security
        docs/privacy
        docs/reliability
    """,
    "Reference": """
        docs/reference/verbs
        docs/reference/http
        docs/reference/command-line
        docs/reference/settings
        docs/reference/limits
        docs/reference/metrics
        docs/reference/errors
        docs/protocol
    """,
    "Inside": """
        docs/architecture
        docs/performance
        bench/results/latest
    """,
    "Project": """
        docs/versions
        CHANGELOG
        CONTRIBUTING
        docs/releasing
        SECURITY
        CODE_OF_CONDUCT
    """,
}

project = "online"
html_title = "online"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
html_use_index = False
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "client/README.md", "bench/results/latest.md"]
exclude_patterns = [".*", "build", "src", "ext", "tests", "docs/site"]
root_doc = "README"

#: Headings that a link may lead to: #### is the deepest.
myst_heading_anchors = 4
#: Examples of protocols, and of files that Pygments has no language for.
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = True


def add_navigation(app: Any, name: str, source: list[str]) -> None:
    """Put the menu at the end of the first page, where it is not shown."""
    if name == root_doc:
        for caption, pages in NAVIGATION.items():
            lines = ["\n\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages.split(), "```\n"]
            source[0] += "\n".join(lines)


def setup(app: Any) -> None:
    app.connect("source-read", add_navigation)
