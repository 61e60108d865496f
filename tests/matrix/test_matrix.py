"""Every cell of the resiliency matrix, and that docs/reliability.md shows it."""

import random
from pathlib import Path

import pytest
import trio
from tests.matrix.cells import COLUMNS, ROWS, Cell, table
from tests.serving import run, transport_in_use

from online.serve import keeper

RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.mark.parametrize("feature", COLUMNS)
@pytest.mark.parametrize("misfortune", ROWS)
def test_cell(misfortune, feature, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_S", 1e9)
    token = transport_in_use.set("streams")

    async def live():
        async with trio.open_nursery() as nursery:
            cell = Cell(nursery, tmp_path, random.Random(misfortune))
            try:
                await cell.start()
                await cell.peer.ask(b"HIT ada /x")
                await ROWS[misfortune](cell)
                await COLUMNS[feature](cell)
            finally:
                cell.disk.recover()
            nursery.cancel_scope.cancel()

    try:
        run(live)
    finally:
        transport_in_use.reset(token)


def test_the_table_in_the_document_is_of_these_tests():
    assert table() in RELIABILITY.read_text(), "python -m tests.matrix.cells prints it"
