"""Python's collector of cycles, kept from making others wait.

A collection looks at every object of the process: 10 ms for the modules of a server alone. What is there at the start
stays to the end, so it is set aside for good. What comes later are connections, which are freed without the collector.
Collections are counted as the event `gc` (delays).
"""

import gc
from time import perf_counter_ns

from online.serve.delays import Delays

#: More objects than were freed, before the young are looked at; and how often those, before the older are.
#: Python's own are 700, 10 and 10 (2,000 from version 3.13 on).
THRESHOLDS = (10_000, 20, 50)


def calm(delays: Delays) -> None:
    """Set aside all that exists, and let `delays` know of each collection. Once in a process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(_Timer(delays))


class _Timer:
    """Measures collections: called before and after each."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._began_ns = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = perf_counter_ns()
        else:
            self._delays.took("gc", perf_counter_ns() - self._began_ns)
