"""A server that is stopped while hits come in, and started again: whoever was answered is online as before."""

import threading
import time

import pytest
from tests.serving import server_process

from online_client import Client, OnlineError

BATCH = 200
URLS = 10
ENOUGH = 30


class Load(threading.Thread):
    """Sends batch after batch, each of new users, until the server goes; remembers what was answered."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.answered = []
        self.has_enough = threading.Event()

    def run(self):
        with Client(f"online://{self.address}", timeout=10) as client:
            for nth in range(100_000):
                # A second ago: the server's clock may be a millisecond behind ours, and takes the future for now.
                seen_ms = time.time_ns() // 1_000_000 - 1_000
                batch = [(f"user{nth}-{i}", f"/page/{i % URLS}", seen_ms - i) for i in range(BATCH)]
                try:
                    client.hits(batch)
                except OnlineError:
                    return
                self.answered += batch
                if nth == ENOUGH:
                    self.has_enough.set()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["reactor", "streams"])
def test_a_restart_under_load_forgets_nobody_who_was_answered(tmp_path, transport):
    arguments = ("--state", str(tmp_path / "state"), "--transport", transport)
    with server_process(*arguments) as server:
        load = Load(server.address)
        load.start()
        assert load.has_enough.wait(20)
        assert server.end() == 0
        load.join()
    with server_process(*arguments) as server, Client(f"online://{server.address}", timeout=10) as client:
        known = {user: (url, seen_ms) for user, url, seen_ms in load.answered}
        users = list(known)
        for begin in range(0, len(users), 1_000):
            asked = users[begin : begin + 1_000]
            for user, session in zip(asked, client.seen(*asked), strict=True):
                assert (session.url, round(session.seen_at.timestamp() * 1000)) == known[user]
        # The batch that was under way may have been taken without its answer having arrived.
        counted = client.count()
        assert len(known) <= counted <= len(known) + BATCH
        assert sum(client.counts(*(f"/page/{n}" for n in range(URLS)))) == counted
