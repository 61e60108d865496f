"""Every target over its seeds and what was once answered wrongly, and over both with a few changes at random."""

import random
from pathlib import Path

import pytest
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"

#: Changed inputs a target.
CHANGED = 400


def change(draw, data, others):
    """Overwrite, cut out, double or insert something, up to four times."""
    for _ in range(draw.randint(1, 4)):
        begin = draw.randint(0, len(data))
        end = min(len(data), begin + draw.randint(0, 9))
        other = draw.choice(others)
        at = draw.randint(0, len(other))
        piece = draw.choice([draw.randbytes(draw.randint(1, 4)), other[at : at + draw.randint(1, 12)], b""])
        data = draw.choice([data[:begin] + piece + data[end:], data[:end] + data[begin:], data[:begin] + data[end:]])
    return data


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_a_little_change_makes_of_them(name):
    target = TARGETS[name]
    inputs = [*target.seeds(), *(path.read_bytes() for path in sorted((FOUND / name).glob("*")))]
    draw = random.Random(name)
    for data in inputs:
        target(data)
    for number in range(CHANGED):
        changed = change(draw, inputs[number % len(inputs)], inputs)
        try:
            target(changed)
        except Exception as error:
            error.add_note(f"the input was {changed!r}")
            raise
