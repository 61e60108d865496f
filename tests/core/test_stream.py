"""A whole stream fed into a server, and what an independent dictionary says of it: the same, in both dialects."""

import gzip
import os
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest
import redis
from tests.serving import server_process

from online_client import Client

#: Logs that are not part of the project, if there are any.
REAL_LOGS = os.environ.get("ONLINE_REAL_LOGS")
WINDOW_MS = 1_800_000
ASKED_URLS = 1_000
LISTED = 30


def generated():
    """50,000 hits of an hour by Zipf's law, a tenth of them up to a minute out of order."""
    dice = random.Random(2010)
    weights = [1 / rank for rank in range(1, 5_001)]
    urls = dice.choices([f"/topic/{n}" for n in range(5_000)], weights, k=50_000)
    for nth, url in enumerate(urls):
        behind_ms = dice.randrange(60_000) if dice.random() < 0.1 else 0
        yield f"user{dice.randrange(20_000)}", url, nth * 72 - behind_ms


def taobao():
    """An hour of a shop's clicks."""
    with gzip.open(Path(REAL_LOGS) / "taobao" / "hour1.csv.gz", "rt") as lines:
        for line in lines:
            user, item, _, _, seen_s = line.split(",")
            yield user, f"/item/{item}", int(seen_s) * 1000


class Site:
    """The rules once more, as far as a stream of hits within a window needs them: two dictionaries."""

    def __init__(self, hits, last_ms):
        newest = {}
        for nth, (user, url, seen_ms) in enumerate(hits):
            old = newest.get(user, (0, 0, ""))
            is_repeat = (seen_ms, url) == (old[0], old[2])
            if seen_ms // 1000 > last_ms // 1000 - WINDOW_MS // 1000 and not is_repeat:
                newest[user] = max(old, (seen_ms, nth, url))
        self.online = len(newest)
        self.pages = defaultdict(list)
        for user, (seen_ms, nth, url) in newest.items():
            self.pages[url].append((seen_ms, nth, user))
        for viewers in self.pages.values():
            viewers.sort(reverse=True)

    def page(self, url):
        viewers = self.pages.get(url, [])
        return self.online, len(viewers), [(user, seen_ms) for seen_ms, _, user in viewers[:LISTED]]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [generated, taobao] if REAL_LOGS else [generated])
def test_a_server_says_what_a_dictionary_says(stream):
    hits = list(stream())
    # The stream ends a minute ago, with half a second to spare: while this runs, nobody leaves the window.
    window_s = WINDOW_MS // 1000 + 120
    shift_ms = (time.time_ns() // 1_000_000_000 - 60) * 1000 - max(seen_ms for *_, seen_ms in hits) // 1000 * 1000
    hits = [(user, url, seen_ms + shift_ms) for user, url, seen_ms in hits]
    last_ms = max(seen_ms for *_, seen_ms in hits)
    recent = [hit for hit in hits if hit[2] // 1000 > last_ms // 1000 - WINDOW_MS // 1000]
    site = Site(recent, last_ms)
    dice = random.Random(1)
    urls = dice.sample(sorted({url for _, url, _ in hits}), ASKED_URLS)
    with (
        server_process("--window", str(window_s)) as server,
        Client(f"online://127.0.0.1:{server.port}", timeout=20) as client,
        redis.Redis(port=server.port, decode_responses=True) as other,
    ):
        taken = client.hits(recent)
        assert (taken.accepted + taken.ignored, taken.refused) == (len(recent), 0)
        assert client.count() == other.execute_command("COUNT") == site.online
        for url in urls:
            page = client.page(url, LISTED)
            listed = [(viewer.user, round(viewer.seen_at.timestamp() * 1000)) for viewer in page.users]
            assert (page.online, page.here, listed) == site.page(url)
            online, here, users, _ = other.execute_command("PAGE", url, LISTED)
            assert (online, here, [(user, seen_ms) for user, seen_ms, _ in users]) == site.page(url)
