"""Records that are in several orders at once. For C code; see ext/skiplist.pyx."""

def steps() -> int | None:
    """Return how many records all searches have visited; None unless built with ONLINE_COUNT_STEPS."""
