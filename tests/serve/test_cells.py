"""A server that has some sites only: others are refused, whichever way they come."""

import json
import urllib.error
import urllib.request

import pytest
from tests.serving import Line, run_command, server_process

from online.core.frames import dump
from online.core.index import Index
from online.core.journal import site
from online.core.replay import Replay
from online.core.sites import Sites
from online.errors import NotServedError
from online.limits import Limits
from online.serve.verbs import Verbs
from online_client import Client, ServerError

NOW_MS = 1_700_000_000_000

REFUSED = 'NOSITE the site "blog" is not on this server (its setting `sites`); nothing has changed'


@pytest.fixture
def sites():
    return Sites(Limits(max_memory=2**30), served=[b"forum", b"shop"])


def test_other_sites_are_refused_before_anything_is_asked(sites):
    line = Line(Verbs(sites))
    for name in ("forum", "shop", "default"):
        assert line.ask("SITE", name) == "OK"
        assert line.ask("HIT", "ann", "/") == "OK"
    assert line.ask("SITE", "blog") == REFUSED
    assert line.ask("AUTH", "blog", "token") == REFUSED
    assert line.ask("HIT", "bob", "/") == "OK"  # it still speaks of the site before
    assert line.ask("COUNT") == 2
    assert set(sites) == {b"forum", b"shop", b"default"}


def test_no_site_is_opened_from_below(sites):
    with pytest.raises(NotServedError):
        sites.open(b"blog")
    assert sites.max_reached == 0


def test_frames_of_other_sites_are_left_out(sites):
    """So a bus may have more sites, and a state directory those of before."""

    class Host:
        open = sites.open

        def noted(self, text):
            raise AssertionError(text)

    replay = Replay(Host())
    index = Index()
    index.hit(b"ann", b"/", now_ms=NOW_MS)
    hits = b"".join(dump(index))
    for name in (b"blog", b"forum"):
        assert replay.apply(site(name) + hits, now_ms=NOW_MS, latest_ms=NOW_MS)
    assert set(sites) == {b"forum", b"default"}
    assert sites[b"forum"].count(now_ms=NOW_MS) == 1


def test_the_setting():
    with server_process("--sites", "forum", "--sites", "shop", "--http", "127.0.0.1:0") as server:
        with Client(f"{server.url}/forum") as client:
            client.hit("ann", "/")
        with Client(f"{server.url}/blog") as client, pytest.raises(ServerError, match="NOSITE"):
            client.hit("ann", "/")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.http}api/v1/count?site=blog")
        assert (refused.value.code, json.load(refused.value)["code"]) == (421, "NOSITE")


def test_a_name_that_looks_like_a_list_is_warned_of():
    told = run_command("serve", "--check", "--listen", "127.0.0.1:0", "--sites", "forum,shop").stderr
    assert told == (
        'online serve: sites: "forum,shop" is one site, with a comma in its name; for several, give --sites once for '
        "each\n"
    )
    assert run_command("serve", "--check", "--listen", "127.0.0.1:0", ONLINE_SITES="forum,shop").stderr == ""
