"""Python's collector makes nobody wait, and says how long it took."""

import gc

import pytest

from online.serve import collector
from online.serve.delays import Delays


@pytest.fixture
def as_before():
    """Undo what a process does once."""
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks


def test_what_exists_is_set_aside_and_collections_are_counted(as_before):
    delays = Delays()
    collector.calm(delays)
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < gc.get_freeze_count()
    assert "gc" not in delays.events()
    gc.collect()
    assert sum(delays.events()["gc"].counts) == 1
