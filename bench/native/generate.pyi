"""Hits by number, drawn from a seed and written straight into bytes."""

class Generator:
    """Draws hit number n from the seed and n alone: the same in every form and in whatever pieces."""

    def __init__(
        self,
        *,
        n_users: int,
        n_urls: int,
        n_hits: int,
        seed: int,
        start_ms: int,
        span_ms: int,
        exponent: float,
        late_share: float = 0.0,
        are_users_new: bool = False,
        n_once: int = 0,
    ) -> None:
        """Spread `n_hits` evenly over `span_ms`; urls follow Zipf's law with `exponent`, 0 for evenly.

        Users are drawn evenly; but the first `n_once` hits bring one user after the other, scattered, and with
        `are_users_new` hit n is of user n. `late_share` of the hits are up to a minute older than their place tells.
        """
    n_hits: int
    def hits(self, first: int, n: int) -> list[tuple[bytes, bytes, int]]:
        """Return `[(user, url, seen_ms), ...]`."""
    def frames(self, first: int, n: int, frame_hits: int, *, msgid: int = -1) -> bytes:
        """Return MessagePack `hits` frames: notifications, or requests that are numbered from `msgid` on."""
    def commands(self, first: int, n: int, head: bytes) -> bytes:
        """Return RESP commands: each `head`, which counts three words more, then user, url and seen_ms."""
