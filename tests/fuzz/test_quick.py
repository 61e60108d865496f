"""The quick fuzzers over their seeds, and over these changed at random."""

import random
from pathlib import Path

import pytest
from tests.fuzz.building import quick_in

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("quick")  # one process builds it

CHANGED = 4_000

NAMES = (
    "resp_commands",
    "msgpack_requests",
    "http_gets",
    "usual_lines",
    "syslog_datagrams",
    "journal_records",
    "bus_entries",
    "values",
    "states_of_names",
)


@pytest.fixture(scope="module")
def quick():
    return quick_in(ROOT / "build" / "quick")


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_what_changes_make_of_them(quick, name):
    seeds = quick.seeds_of(name)
    for seed in seeds:
        quick.run(name, seed)
    assert quick.shaken(name, seeds, CHANGED, len(name)) > 0


def test_what_is_wrong_is_noted_with_the_input(quick):
    """An index that forgets who was hit: the target notices."""
    seeds = quick.seeds_of("states_of_names")
    known, quick.named = quick.named, lambda text: "somebody"
    try:
        with pytest.raises(AssertionError, match="other names") as raised:
            quick.shaken("states_of_names", seeds, CHANGED, 1)
    finally:
        quick.named = known
    [note] = raised.value.__notes__
    assert note.startswith("the input was b'")


def test_every_target_is_run(quick):
    assert quick.QUICK == NAMES


def test_the_same_seed_gives_the_same_inputs(quick):
    def inputs(seed):
        seen = []
        draw = random.Random(seed)
        seeds = [draw.randbytes(20), b"\0" * 20]
        known, quick.named = quick.named, lambda text: seen.append(text)
        try:
            quick.shaken("states_of_names", [b"user\0/" + each for each in seeds], 50, seed)
        except AssertionError as error:
            seen += error.__notes__
        finally:
            quick.named = known
        return seen

    assert inputs(1) == inputs(1) != inputs(2)


def test_without_libfuzzer_there_is_no_guided_loop(quick):
    with pytest.raises(RuntimeError, match="no libFuzzer"):
        quick.guided("values", [])
