"""The transports that tests of the server run over, and the verbs of a server without sockets."""

import logging

import pytest
from tests.serving import TRANSPORTS, Line

from online.core.sites import Sites
from online.limits import Limits
from online.serve.tokens import Tokens, grant
from online.serve.verbs import Verbs


@pytest.fixture(autouse=True)
def _no_news_of_a_busy_machine(monkeypatch):
    """Servers in this process do not log how long others waited: tests look at what they log."""
    monkeypatch.setattr(logging.getLogger("online.delays"), "disabled", True)


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    """Each of the transports in turn."""
    return request.param


@pytest.fixture
def streams():
    return "streams"


@pytest.fixture
def make_verbs():
    def make(*, window_s=1_800, token=None, **limits):
        tokens = Tokens([] if token is None else [grant(token)])
        return Verbs(Sites(Limits(**({"max_memory": 2**30} | limits)), window_s=window_s), tokens)

    return make


@pytest.fixture
def verbs(make_verbs):
    return make_verbs()


@pytest.fixture
def line(verbs):
    return Line(verbs)


@pytest.fixture
def busy(line):
    for user, url in [("a", "/x"), ("b", "/x"), ("c", "/y"), ("d", "/forum/1"), ("e", "/forum/2")]:
        line.ask("HIT", user, url)
    return line
