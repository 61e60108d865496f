"""kill -9 at any moment: nothing that was acknowledged is lost, and nobody is online who was never sent.

`make check-hard` runs many more cycles: ONLINE_KILL_CYCLES says how many.
"""

import os
import random
import time

import pytest
import redis
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


SPEED = 30  # a minute takes two seconds


@pytest.mark.slow
def test_rows_of_complete_minutes_survive_kill_9(tmp_path):
    seed = os.environ.get("ONLINE_KILL_SEED") or os.urandom(4).hex()
    print(f"ONLINE_KILL_SEED={seed}")
    draw, port = random.Random(seed), free_port()
    known, since_ms = {}, time.time_ns() // 1_000_000
    fast = {"ONLINE_SPEED": str(SPEED), "ONLINE_SINCE_MS": str(since_ms)}
    for _ in range(-(-CYCLES // 3)):
        server = Server(port, "--state", str(tmp_path / "state"), **fast)
        try:
            server.client().close()
            with redis.Redis(port=port) as client:
                until_s = time.monotonic() + draw.uniform(0.1, 5)
                begun, n_sent = minute_of(client), 0
                rows = {}
                while time.monotonic() < until_s or not (rows or known):
                    n_hits = draw.randrange(1, 50)
                    send_hits(client, draw, n_hits)
                    n_sent += n_hits
                    now = minute_of(client)
                    found = client.execute_command("HISTORY", since_ms, since_ms + 60_000_000, 60)
                    rows = {row[0] // 60_000: row for row in found if row[0] // 60_000 < now}
        finally:
            server.kill()
        assert len(found) == len({row[0] for row in found}), "a row twice"
        assert known.items() <= rows.items()
        # In the minute of the start, another server may have had a part. A minute ends up to a second late: no sooner.
        assert sum(row[5] for minute, row in rows.items() if minute > begun) <= n_sent
        known = rows
    assert known


def minute_of(client):
    return client.time()[0] // 60


def send_hits(client, draw, n_hits):
    pipeline = client.pipeline(transaction=False)
    for _ in range(n_hits):
        pipeline.execute_command("HIT", f"user{draw.randrange(1000)}", "/")
    pipeline.execute()


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
