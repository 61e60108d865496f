"""Answers of TOP, kept for a moment: TOP walks all pages, so one walk serves everybody who asks."""

from online.core.index import Index

#: How long an answer serves everybody (contract: up to 1 s old).
FRESH_MS = 1_000

#: Answers that are kept; each is at most max_limit urls.
KEPT = 64


class Tops:
    """The newest answers of TOP, by site and prefix."""

    def __init__(self, max_limit: int) -> None:
        """Keep `max_limit` urls of each."""
        self._max_limit = max_limit
        self._kept: dict[tuple[bytes, bytes], tuple[int, list[tuple[bytes, int]]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, site: bytes, index: Index, prefix: bytes, now_ms: int) -> list[tuple[bytes, int]]:
        """Return the pages of a site with most people first. O(pages) if none is kept that is fresh."""
        made_ms, top = self._kept.pop((site, prefix), (None, []))
        if made_ms is None or not _is_fresh(made_ms, now_ms):
            made_ms, top = now_ms, index.top(self._max_limit, prefix, now_ms=now_ms)
        self._kept[site, prefix] = made_ms, top
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return top

    def expire(self, now_ms: int) -> None:
        """Forget those that are too old."""
        self._kept = {asked: top for asked, top in self._kept.items() if _is_fresh(top[0], now_ms)}


def _is_fresh(made_ms: int, now_ms: int) -> bool:
    return 0 <= now_ms - made_ms < FRESH_MS
