"""Agents -> the browsers and systems that they name, for reports.

Not its job: which agents are bots (online_client.agents).

Agents name many browsers, to be taken for each: `Edg/` stands beside `Chrome/` and `Safari/`. So the first word of a
table that an agent has decides, and the words that others copy stand last.
"""

from functools import lru_cache

from online_client.agents import MAX_CHARACTERS

OTHER, NOT_TOLD = "other", "not told"

BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("Opera", "Opera"), ("Vivaldi/", "Vivaldi"), ("YaBrowser/", "Yandex"),
    ("SamsungBrowser/", "Samsung Internet"), ("UCBrowser", "UC Browser"), ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"), ("Firefox/", "Firefox"), ("CriOS/", "Chrome"), ("Chrome/", "Chrome"),
    ("Chromium/", "Chrome"), ("MSIE ", "Internet Explorer"), ("Trident/", "Internet Explorer"),
    ("Safari/", "Safari"), ("AppleWebKit/", "Safari"),
)  # fmt: skip

SYSTEMS = (
    ("Windows Phone", "Windows Phone"), ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iOS"),
    ("iPad", "iOS"), ("iPod", "iOS"), ("Mac OS X", "macOS"), ("Macintosh", "macOS"), ("CrOS", "ChromeOS"),
    ("Linux", "Linux"), ("BSD", "BSD"),
)  # fmt: skip

def named_in(agent: str, names: tuple[tuple[str, str], ...]) -> str:
    """Return what a table says of an agent. O(length).

    >>> named_in("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130 Safari/537.36 Edg/130", BROWSERS)
    'Edge'
    """
    if agent in ("", "-"):
        return NOT_TOLD
    return next((name for word, name in names if word in agent), OTHER)


@lru_cache(10_000)
def browser_and_system(agent: bytes) -> tuple[str, str]:
    """Return the browser and the system that an agent names, by its first MAX_CHARACTERS. O(length)."""
    text = agent[:MAX_CHARACTERS].decode("latin-1")
    return named_in(text, BROWSERS), named_in(text, SYSTEMS)
