"""Tokens with roles and sites: how a file gives them, and what they allow over every dialect."""

import hashlib

import pytest
from tests.serving import Line

from online.core.sites import Sites
from online.errors import ConfigError
from online.limits import Limits
from online.serve.tokens import Tokens, grant, read_tokens
from online.serve.verbs import Verbs


def read(*lines):
    return Tokens(read_tokens("FILE", lines, 1024))


def test_a_line_gives_a_role_a_site_and_a_token():
    tokens = read("# who may what", "", "read look", "write shop buy", "admin all")
    assert (tokens.find(b"look").role, tokens.find(b"look").site) == ("read", None)
    assert (tokens.find(b"buy").role, tokens.find(b"buy").site) == ("write", b"shop")
    assert tokens.find(b"all").allows("admin")
    assert tokens.find(b"All") is None


def test_a_token_may_be_hashed():
    tokens = read(f"read sha256:{hashlib.sha256(b'sesame').hexdigest().upper()}")
    assert tokens.find(b"sesame").role == "read"
    assert tokens.find(hashlib.sha256(b"sesame").digest()) is None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["reed sesame"], r"FILE, line 1 does not begin with a role: .* or admin; did you mean read\? Each line is"),
        (["Admin sesame"], r"FILE, line 1 does not begin with a role: .*; did you mean admin\?"),
        (["open sesame"], r"FILE, line 1 does not begin with a role: read, write or admin\. Each line is ROLE"),
        (["read a", "sesame"], r"FILE, line 2 does not begin with a role: read, write or admin\. Each"),
        (["read a", "write"], r"FILE, line 2 has 1 word\. Each line is ROLE"),
        (["read a b sesame"], r"FILE, line 1 has 4 words\. Each line is ROLE"),
        (["read sha256:5e5a"], "FILE, line 1: sha256: is followed by 64 hexadecimal digits"),
        ([f"read {'s' * 65} sesame"], "FILE, line 1: a site has at most 64 bytes, not 65"),
        ([f"read {'s' * 1025}"], "FILE, line 1: a token has at most 1024 bytes, not 1025"),
        (["read sesame", "write sesame"], "FILE gives the same token twice"),
        (["# nothing"], "FILE holds no token"),
    ],
)
def test_a_line_that_is_wrong_is_named_without_its_token(lines, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        read(*lines)
    assert "sesame" not in str(caught.value)


@pytest.fixture
def line():
    sites = Sites(Limits(max_memory=2**30))
    grants = [grant(b"look", "read"), grant(b"tell", "write"), grant(b"all"), grant(b"shop-only", "write", b"shop")]
    line = Line(Verbs(sites, Tokens(grants)))
    line.ask("AUTH", "all")
    line.ask("HIT", "ada", "/")
    line.ask("SITE", "shop")
    line.ask("HIT", "theo", "/cart")
    line.ask("RESET")
    return line


@pytest.mark.parametrize("request_", [("HIT", "a", "/"), ("LEAVE", "ada"), ("hits", ["a", "/"])])
def test_a_token_for_reading_writes_nothing(line, request_):
    line.ask("AUTH", "look")
    assert line.ask(*request_) == "NOPERM a token with the role write is needed for hits and leaves"
    assert line.ask("COUNT") == 1
    assert line.ask("SITES") == [["default", 1], ["shop", 1]]
    line.ask("AUTH", "tell")
    assert not str(line.ask(*request_)).startswith("NOPERM")


def test_a_transaction_is_judged_by_the_token_too(line):
    line.ask("AUTH", "look")
    line.ask("MULTI")
    assert line.ask("HIT", "a", "/").startswith("NOPERM ")
    assert line.ask("EXEC").startswith("EXECABORT ")


def test_only_an_administrator_sees_and_ends_connections(line):
    for token in ("look", "tell", "shop-only"):
        line.ask("AUTH", token)
        assert line.ask("CLIENT", "LIST") == "NOPERM a token with the role admin is needed for CLIENT LIST and KILL"
        assert line.ask("CLIENT", "KILL", "ID", "1").startswith("NOPERM ")
        assert line.ask("CLIENT", "INFO").startswith("id=")
    line.ask("AUTH", "all")
    assert line.ask("CLIENT", "LIST").startswith("id=")


def test_a_token_of_a_site_is_good_for_no_other(line):
    assert line.ask("AUTH", "default", "shop-only") == 'NOPERM the token is for the site "shop", not "default"'
    assert line.ask("COUNT").startswith("NOAUTH ")
    line.ask("AUTH", "shop-only")
    assert line.ask("SEEN", "ada", "theo")[0] is None
    assert line.ask("SITE", "default").startswith("NOPERM ")
    assert line.ask("SELECT", 0) == "OK"
    assert line.ask("COUNT", "/cart") == 1
    assert line.ask("SITES") == [["shop", 1]]
    info = line.ask("INFO", "sites")
    assert "site_shop:" in info
    assert "site_default:" not in info


def test_reset_takes_what_a_token_allowed(line):
    line.ask("AUTH", "shop-only")
    line.ask("RESET")
    assert line.ask("SITE", "shop").startswith("NOAUTH ")
    line.ask("AUTH", "all")
    assert line.ask("SITE", "default") == "OK"
    assert line.ask("HIT", "a", "/") == "OK"
