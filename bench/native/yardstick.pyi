"""What this machine takes for one load from memory, and how much of its time it keeps for itself."""

class Yardstick:
    def __init__(self, n_bytes: int, *, huge_pages: bool) -> None:
        """Shuffle a chain of cache lines over `n_bytes`, in pages of 4 KiB or, if the system grants them, 2 MiB."""
    def load_ns(self, n_loads: int) -> float:
        """Walk so many steps along the chain, each waiting for the one before; return nanoseconds a step."""
    def circle(self) -> int:
        """Count the steps around the chain: as many as there are nodes. For tests."""

def longest_gap_ns(for_s: float) -> int:
    """Do nothing but read the clock for so long; return the longest time between two readings.

    It is what the machine takes away from a process that never waits.
    """
