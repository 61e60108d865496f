"""Which requests show somebody a page: one rule and one table, for middleware, logs and beacons.

Not its job: how a framework or a log tells of a request, and whose the page view is (agents, addresses).

1. Only an answer that leaves its browser on another page counts. A redirect, a 204 or an error leaves it where it is;
   of 1xx, and of no answer at all (000, 0, -1, 499), a browser shows nothing.
2. What a browser fetches before anybody looks, or for a part of a page, is no page view.
"""

import re
from collections.abc import Callable

METHODS = frozenset({"GET", "HEAD", "POST"})

#: 200, 203 a whole page, 206 a part of it, 304 the page that the browser has.
STATUSES = frozenset({200, 203, 206, 304})

#: Types of content, without parameters, that are pages; "" where it is not told.
TYPES = frozenset({"text/html", "application/xhtml+xml", ""})

#: What a page's url does not end in: the files that browsers fetch for a page, and what only programs read.
FILES = frozenset(
    [
        "avif", "bmp", "css", "csv", "cur", "eot", "flac", "gif", "gz", "ico", "jpeg", "jpg", "js", "json",
        "m3u8", "m4a", "m4s", "m4v", "map", "mjs", "mov", "mp3", "mp4", "mpd", "oga", "ogg", "ogv", "opus",
        "otf", "pdf", "png", "rss", "svg", "tar", "tgz", "tif", "tiff", "ts", "ttf", "txt", "wasm", "wav",
        "webm", "webmanifest", "webp", "woff", "woff2", "xml", "zip",
    ]
)  # fmt: skip

#: Headers by which browsers say that they fetch a page for later.
PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")

PREFETCH, FRAGMENT = "prefetch", "fragment"

_ASIDE = re.compile("prefetch|prerender|preview|fragment|xmlhttprequest", re.IGNORECASE)

Header = Callable[[str], str | None]


def shows_page(method: str, status: int, content_type: str = "") -> bool:
    """Tell whether the answer to a request shows a page. `content_type` may have parameters.

    >>> shows_page("GET", 200, "text/html; charset=utf-8"), shows_page("GET", 204)
    (True, False)
    """
    return method in METHODS and status in STATUSES and content_type.partition(";")[0].strip().lower() in TYPES


def is_file(path: str, files: frozenset[str] = FILES) -> bool:
    """Tell whether a path, decoded and without a query, is that of a file: by its ending, before any `;`.

    >>> is_file("/s.css;v=3"), is_file("/a.css/b")
    (True, False)
    """
    _, dot, ending = path.rpartition("/")[2].partition(";")[0].rpartition(".")
    return bool(dot) and ending.lower() in files


def purpose_of(header: Header) -> str:
    """Tell for what else than to be looked at a page is fetched: PREFETCH, FRAGMENT, or "" for a page view.

    `header` gives the value of a request's header, or None or "".

    >>> purpose_of({"Sec-Purpose": "prefetch;prerender"}.get), purpose_of({"X-Requested-With": "XMLHttpRequest"}.get)
    ('prefetch', 'fragment')
    """
    if any(is_aside(header(name) or "") for name in PURPOSES):
        return PREFETCH
    # A web view of Android sends the name of its app there.
    if (header("X-Requested-With") or "").lower() == "xmlhttprequest":
        return FRAGMENT
    return FRAGMENT if _is_true(header("HX-Request")) and not _is_true(header("HX-Boosted")) else ""


def is_aside(purpose: str) -> bool:
    """Tell whether one value, of any of these headers or of `purpose_of`, says that nobody looks at a page."""
    return bool(purpose) and _ASIDE.search(purpose) is not None


def _is_true(value: str | None) -> bool:
    return (value or "").lower() == "true"
