"""The most people ever online on each site, over restarts of all sorts, against a model."""

import random
import signal

import pytest
from tests.keep.killing import Server, free_port

from online_client import Client

SITES = ("default", "shop", "news")


class Model:
    """Who is online on a site, and the most that ever were."""

    def __init__(self):
        self.users = set()
        self.peak = 0

    def hit(self, user):
        self.users.add(user)
        self.peak = max(self.peak, len(self.users))


def live(client, model, draw):
    """Let users come and go, in batches and alone."""
    for _ in range(draw.randrange(5, 30)):
        users = [f"user{draw.randrange(400)}" for _ in range(draw.choice((1, 1, 5, 40)))]
        if draw.random() < 0.5:
            client.hits([(user, f"/{draw.randrange(9)}") for user in users])
            for user in users:
                model.hit(user)
        else:
            for user in users:
                client.leave(user)
                model.users.discard(user)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_peaks_over_ten_restarts_are_those_of_a_model(tmp_path, seed):
    draw, port = random.Random(seed), free_port()
    models = {site: Model() for site in SITES}
    for _ in range(11):
        server = Server(port, "--state", str(tmp_path / "state"), "--last-seen", "1")
        try:
            server.client().close()
            for site, model in models.items():
                with Client(f"online://127.0.0.1:{port}/{site}", timeout=20) as client:
                    assert (client.peak().people, client.count()) == (model.peak, len(model.users)), site
                    assert client.peak(since=0).people == model.peak
                    live(client, model, draw)
                    assert client.peak(since=0).people == model.peak
        finally:
            server.kill(draw.choice((signal.SIGKILL, signal.SIGTERM)))
