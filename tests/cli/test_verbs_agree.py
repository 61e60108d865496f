"""The verbs of the server, the client and `online query` are the same, with the same arguments."""

import inspect
import re
from pathlib import Path

import pytest

from online.cli.questions import VERBS
from online_client import Client, verbs
from online_client.aio import AsyncClient

ROOT = Path(__file__).parents[2]


def server_usages():
    """The verb table of the server, by name: each row is a string that begins with the verb, in capital letters."""
    sources = [*ROOT.glob("ext/*.pyx"), *ROOT.glob("src/online/core/wire.py")]
    row = re.compile(r'^(?:verb\(|    Verb\()"(([A-Z]+)(?: [^"]*)?)", ', re.MULTILINE)
    return {name: usage for path in sources for usage, name in row.findall(path.read_text())}


def client_verbs():
    """The verbs that both clients have a method for."""
    names = {name for name, _ in inspect.getmembers(verbs, inspect.isfunction)}
    methods = {name.upper() for name in names if hasattr(Client, name)}
    assert methods == {name.upper() for name in names if hasattr(AsyncClient, name)}
    return methods


def words_of(usage):
    """The arguments in a usage, each once: `COUNTS url [url ...]` has `url`."""
    return list(dict.fromkeys(re.findall(r"[a-z_]+", usage)))


def client_words(name):
    """The arguments of a client's method, called as the server calls them."""
    called = {"within": "within_s", "urls": "url", "users": "user"}
    called |= {"since": "since_ms", "from_": "from_ms", "to": "to_ms", "step": "step_s"}
    return [called.get(each, each) for each in inspect.signature(getattr(verbs, name.lower())).parameters]


def query_words(name):
    return [argument.options.get("metavar", argument.name) for argument in VERBS[name.lower()].arguments]


SERVER = server_usages()

#: What our clients send by themselves, or need no method for, what only Redis clients send, and gateways.
NOT_ASKED = {
    *("SITE", "SUBSCRIBE", "UNSUBSCRIBE", "ECHO", "QUIT", "RESET", "AUTH", "HELLO", "CLIENT", "SELECT", "CONFIG"),
    *("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "COMMAND"),
    *("DBSIZE", "ROLE", "LATENCY", "SLOWLOG", "MEMORY", "WAIT", "CLUSTER"),
    "PAGES",
}
ASKED = sorted(set(SERVER) - NOT_ASKED)

#: What is made of an answer to HISTORY.
MADE = {"VISITORS"}


def test_the_table_is_found():
    assert {"HIT", "PAGE", "TOP", *NOT_ASKED} <= set(SERVER)


def test_clients_and_query_have_every_verb_that_is_asked():
    assert client_verbs() == set(ASKED) | MADE
    assert {name.upper() for name in VERBS} == set(ASKED) | MADE


@pytest.mark.parametrize("name", sorted(set(ASKED) - {"PING", "TIME"}))
def test_a_verb_has_the_same_arguments_everywhere(name):
    assert client_words(name) == query_words(name) == words_of(SERVER[name])
