"""kill -9 at any moment: nothing that was acknowledged is lost, and nobody is online who was never sent.

`make check-hard` runs many more cycles: ONLINE_KILL_CYCLES says how many.
"""

import os
import random

import pytest
from tests.keep.killing import Model, Sender, Server, cycle, free_port

from online.keep.inspection import digest, inspect

CYCLES = int(os.environ.get("ONLINE_KILL_CYCLES", "6"))


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "sync"), [("reactor", "1s"), ("streams", "1s"), ("reactor", "always")])
def test_what_was_acknowledged_survives_kill_9(tmp_path, transport, sync):
    seed = os.environ.get("ONLINE_KILL_SEED") or os.urandom(4).hex()
    print(f"ONLINE_KILL_SEED={seed}")
    draw = random.Random(seed)
    model = Model()
    for _ in range(-(-CYCLES // 3)):
        assert cycle(model, tmp_path / "state", draw, transport=transport, sync=sync)


@pytest.mark.slow
def test_the_digest_of_what_is_on_disk_is_that_of_the_model(tmp_path):
    model, port = Model(), free_port()
    server = Server(port, "--state", str(tmp_path / "state"))
    with server.client() as client:
        for name in ("m1", "r1"):
            Sender(name, model, port, 7).converse(20)
        model.check(client)
    server.kill()
    inspected = inspect(tmp_path / "state")
    assert inspected.report.is_clean
    assert digest(inspected.sites) == digest(model.sites(inspected.at_ms))
