"""Agents -> the browsers and systems that they name, for reports.

Not its job: which agents are bots (online_client.agents).

Agents name many browsers, to be taken for each: `Edg/` stands beside `Chrome/` and `Safari/`. So the first word of a
table that an agent has decides, and the words that others copy stand last.
"""

from collections import Counter

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

#: The most different agents that are counted by themselves, for a moment.
_MOST_AGENTS = 10_000


def named_in(agent: str, names: tuple[tuple[str, str], ...]) -> str:
    """Return what a table says of an agent. O(length).

    >>> named_in("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130 Safari/537.36 Edg/130", BROWSERS)
    'Edge'
    """
    if agent in ("", "-"):
        return NOT_TOLD
    return next((name for word, name in names if word in agent), OTHER)


class Agents:
    """Counts hits by browser and by system. Memory is bounded, whatever agents come."""

    def __init__(self) -> None:
        self._agents: Counter[bytes] = Counter()
        self._browsers: Counter[str] = Counter()
        self._systems: Counter[str] = Counter()

    def count(self, agent: bytes) -> None:
        """Count a hit. O(1)."""
        self._agents[agent[:MAX_CHARACTERS]] += 1
        if len(self._agents) > _MOST_AGENTS:
            self._sum_up()

    def add(self, later: "Agents") -> None:
        """Add the agents of later hits."""
        if later._browsers:
            self._sum_up()
            self._browsers.update(later._browsers)
            self._systems.update(later._systems)
        self._agents.update(later._agents)
        if len(self._agents) > _MOST_AGENTS:
            self._sum_up()

    def _sum_up(self) -> None:
        for agent, hits in self._agents.items():
            text = agent.decode("latin-1")
            self._browsers[named_in(text, BROWSERS)] += hits
            self._systems[named_in(text, SYSTEMS)] += hits
        self._agents.clear()

    @property
    def browsers(self) -> Counter[str]:
        """Hits by browser."""
        self._sum_up()
        return self._browsers

    @property
    def systems(self) -> Counter[str]:
        """Hits by system."""
        self._sum_up()
        return self._systems
