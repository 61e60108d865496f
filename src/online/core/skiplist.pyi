"""Records that stand in several orders at once. For C code; see ext/skiplist.pyx."""

def steps() -> int | None:
    """Return how many records searches have looked at in this process; None unless built with ONLINE_COUNT_STEPS."""
