"""Which requests are page views, whose they are, and that nothing tells who a guest is."""

import argparse
import re

import pytest

from online.errors import ConfigError
from online.logs import pages
from online.logs.formats import reader_of
from online.logs.pages import (
    ASIDE,
    DROPPED,
    FILE,
    METHOD,
    STATUS,
    TARGET,
    Pages,
    PageView,
    guest_key,
    key_beside,
)
from online.logs.records import NO_ADDRESS, Record
from online.logs.rules import Rules, add_rule_arguments, load_rules, read_network, rules_from

NOON_MS = 1_709_294_400_000
BROWSER = b"Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"
KEY = b"k" * 32


def view(key=KEY, url_prefix=b"", rules=(), **request):
    """What becomes of one request by `rules`."""
    record = Record(NOON_MS, b"198.51.100.7", b"-", b"GET", b"/a", b"200", BROWSER)._replace(**request)
    return Pages(lambda line: record, Rules(**dict(rules)), key=key, url_prefix=url_prefix).parse(b"")


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b""])
@pytest.mark.parametrize("status", [b"200", b"203", b"206", b"304", b""])
def test_request_answered_with_a_page_is_a_page_view(method, status):
    assert view(method=method, status=status).url == b"/a"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"method": b"OPTIONS"}, METHOD),
        ({"method": b"get"}, METHOD),
        ({"status": b"404"}, STATUS),
        ({"status": b"500"}, STATUS),
        ({"url": b"/favicon.ico"}, FILE),
        ({"url": b"/a/B.JPG?x=1"}, FILE),
        ({"url": b"/robots.txt"}, FILE),
        ({"url": b"/s.css#x"}, FILE),
        ({"url": b"/s.css;v=3"}, FILE),
        ({"url": b"/s%2Ecss"}, FILE),
        ({"url": b"http://example.org/s.css?v=3"}, FILE),
        ({"url": b"ftp://example.org/a"}, TARGET),
        ({"url": b"example.org:443", "method": b"CONNECT"}, METHOD),
        ({"purpose": b"prefetch;prerender"}, ASIDE),
        ({"purpose": b"XMLHttpRequest"}, ASIDE),
        ({"url": b"\\x16\\x03"}, TARGET),
        ({"url": b"-"}, TARGET),
    ],
)
def test_other_request_is_none_and_says_why(request_, reason):
    assert view(**request_) == reason
    assert reason in pages.NO_PAGE_VIEW


@pytest.mark.parametrize(
    "status",
    [b"-", b"-1", b"0", b"000", b"101", b"103", b"201", b"202", b"204", b"205", b"207", b"301", b"302", b"307", b"499"],
)
def test_answer_that_leaves_the_browser_where_it_is_is_no_page_view(status):
    assert view(status=status) == STATUS


def test_status_and_method_are_judged_before_all_else():
    assert view(status=b"400", url=b"", address=b"", seen_ms=0) == STATUS
    assert view(method=b"PRI", url=b"*", address=b"") == METHOD


@pytest.mark.parametrize("url", [b"/", b"/a.b/c", b"/a.php", b"/js", b"/?f=a.js", b"/v1.2/", b"/.."])
def test_page_may_have_a_dot(url):
    assert isinstance(view(url=url), PageView)


def test_query_goes_but_for_the_parameters_that_are_kept():
    assert view(url=b"/a?b=1&c=2").url == b"/a"
    rules = {"keep_params": ("c", "b")}
    assert view(url=b"/a?b=1&x=3&c=2", rules=rules).url == b"/a?c=2&b=1"
    assert view(url=b"/a?c=2&b=1&b=9", rules=rules).url == b"/a?c=2&b=1"
    assert view(url=b"/a?x=3", rules=rules).url == b"/a"
    assert view(url=b"/a?b", rules=rules).url == b"/a?b="


@pytest.mark.parametrize(
    ("url", "page"),
    [
        (b"/a#top", b"/a"),
        (b"/a?x#top", b"/a"),
        (b"http://www.example.com/a", b"/a"),
        (b"HTTPS://h:443/x?y", b"/x"),
        (b"http://h", b"/"),
        (b"//forum/./b/../a", b"/forum/a"),
        (b"/caf%C3%A9", "/café".encode()),
        (b"/caf%c3%a9", "/café".encode()),
        (b"/caf\xc3\xa9", "/café".encode()),
        (b"/caf\\xC3\\xA9", "/café".encode()),
        (b"/%61%20b", b"/a b"),
        (b"/\xe9%0A", b"/%E9%0A"),
        (b'/say/\\"hi\\"', b'/say/"hi"'),
        (b"/a;jsessionid=AB12", b"/a"),
    ],
)
def test_page_has_one_url(url, page):
    assert view(url=url).url == page


def test_host_is_that_of_the_target_if_it_has_one():
    rules = {"with_host": True}
    assert view(url=b"http://WWW.Example.com:80/a", host=b"other", rules=rules).url == b"www.example.com/a"
    assert view(url=b"/a", host=b"WWW.example.com:443", rules=rules).url == b"www.example.com/a"
    found = Pages(lambda line: record, Rules(), key=KEY)
    record = Record(NOON_MS, b"::1", b"-", b"GET", b"/a", b"200", BROWSER, b"Shop.example.com:443")
    assert (found.parse(b"").url, found.host) == (b"/a", b"shop.example.com")
    record = record._replace(url=b"http://www.example.com/b")
    assert (found.parse(b"").url, found.host) == (b"/b", b"www.example.com")


def test_url_is_rewritten_by_one_rule_after_the_other():
    rules = {"rewrite": ((r"/page/\d+$", ""), (r"^/t/(\d+).*", r"/topic/\1"), ("^/api/.*", ""))}
    assert view(url=b"/t/17-hello/page/3?x", rules=rules).url == b"/topic/17"
    assert view(url=b"/api/poll", rules=rules) == DROPPED


def test_patterns_meet_no_longer_url_than_an_index_takes():
    rules = {"rewrite": (("(x+)+y", ""),)}  # takes twice as long with every x
    assert view(url=b"/" + b"x" * 60_000, rules=rules) == "the url has 60,001 bytes, the limit is 2,048"


def test_prefix_and_host_stand_before_the_url():
    assert view(url_prefix=b"/shop").url == b"/shop/a"
    assert view(host=b"WWW.example.org", rules={"with_host": True}).url == b"www.example.org/a"


def test_who_is_logged_in_is_a_member_by_name_whatever_the_agent():
    for agent in (BROWSER, b"curl/8.0"):
        assert view(user=b"theo", agent=agent) == PageView(b"theo", b"/a", NOON_MS, "member")


@pytest.mark.parametrize("user", [b"-", b'""', b"", b"None", b"null", b"undefined", b"False", b"0", b"AnonymousUser"])
def test_who_is_not_is_a_guest_whose_name_tells_no_address(user):
    found = view(user=user)
    assert re.fullmatch(rb"guest-[0-9a-f]{16}", found.user)
    assert found.kind == "guest"


def test_name_is_not_believed_where_nobody_is_logged_in():
    assert view(user=b"theo", rules={"guests_only": True}) == view()


def test_name_of_a_guest_depends_on_address_agent_and_key_alone():
    assert view(agent=b"Mozilla/5.0 Chrome/120").user != view().user
    names = {view(**each).user for each in ({}, {"url": b"/b"}, {"status": b"304"})}
    assert len(names) == 1
    assert view(address=b"198.51.100.8").user not in names
    assert view(key=b"l" * 32).user not in names


def test_person_and_bot_of_one_address_are_two_users():
    person = view()
    monitor, other = view(agent=b"curl/8.5.0"), view(agent=b"Wget/1.21")
    assert re.fullmatch(rb"bot-[0-9a-f]{16}", monitor.user)
    assert monitor.kind == "bot"
    assert len({person.user, monitor.user, other.user}) == 3
    assert monitor == view(agent=b"curl/8.5.0", url=b"/a#x")
    assert view(agent=b"curl/8.5.0", address=b"198.51.100.8").user != monitor.user
    assert view(agent=b"curl/8.5.0", key=b"l" * 32).user != monitor.user


def test_bot_of_a_shown_address_is_no_guest_either():
    rules = {"keep_addresses": True}
    assert view(rules=rules).user == b"198.51.100.7"
    assert re.fullmatch(rb"bot-[0-9a-f]{16}-198\.51\.100\.7", view(agent=b"curl/8.5.0", rules=rules).user)


def test_cookie_of_a_bot_is_not_shown():
    for rules in ({}, {"keep_addresses": True}):
        found = view(agent=b"curl/8.5.0", address=b"", visitor=b"s7", rules=rules)
        assert re.fullmatch(rb"bot-[0-9a-f]{16}", found.user)


@pytest.mark.parametrize(
    "address",
    [
        b"::ffff:198.51.100.7",
        b"::FFFF:C633:6407",
        b"198.51.100.7:51000",
        b"[::ffff:198.51.100.7]:443",
        b'"198.51.100.7"',
    ],
)
def test_address_is_one_however_it_is_written(address):
    assert view(address=address) == view()
    assert view(address=address, agent=b"curl/8.5.0") == view(agent=b"curl/8.5.0")


def test_name_of_a_host_is_one_in_capitals_too():
    assert view(address=b"Host.example.org").user == view(address=b"host.example.org").user


@pytest.mark.parametrize(
    "address", [b"<190>192.0.2.1", b"2026-11-27T04:20:00Z", b"04:20:00", b"1.1.1.1,", b"nginx:", b"[pod/web]", b"a b"]
)
def test_what_is_no_address_is_nobody(address):
    for agent in (BROWSER, b"curl/8.5.0"):
        assert view(address=address, agent=agent) == NO_ADDRESS


@pytest.mark.parametrize("kind", ["member", "guest", "hidden", "bot"])
def test_line_may_say_the_kind_of_its_user(kind):
    assert view(user=b"theo", kind=kind.encode(), agent=b"curl/8.5.0") == (b"theo", b"/a", NOON_MS, kind)


@pytest.mark.parametrize("nothing", [b"", b"-"])
def test_line_that_says_no_kind_is_a_members_by_its_user(nothing):
    assert view(user=b"theo", kind=nothing).kind == "member"
    assert view(kind=nothing) == view()


@pytest.mark.parametrize("user", [b"-", b"", b"None"])
def test_kind_of_a_line_without_a_user_goes_before_its_agent(user):
    assert view(user=user, kind=b"bot").user.startswith(b"bot-")
    assert view(user=user, kind=b"guest", agent=b"curl/8.5.0").user.startswith(b"guest-")
    for kind in (b"member", b"hidden"):  # there is nobody who could be one
        assert view(user=user, kind=kind) == view()
        assert view(user=user, kind=kind, agent=b"curl/8.5.0").kind == "bot"


def test_kind_does_not_make_a_user_of_a_name_that_is_to_be_ignored():
    rules = {"guests_only": True}
    assert view(user=b"theo", kind=b"hidden", rules=rules) == view()
    assert view(user=b"theo", kind=b"bot", rules=rules) == view(kind=b"bot")


@pytest.mark.parametrize("kind", [b"boss", b"Member", b"members", b"0", b" bot"])
def test_other_kind_is_refused_as_by_the_server(kind):
    reason = f'kind takes member, guest, hidden or bot, not "{kind.decode()}"'
    assert view(user=b"theo", kind=kind) == view(kind=kind) == reason
    assert view(kind=kind, status=b"404") == STATUS
    assert view(kind=kind, url=b"/x.js") == FILE


@pytest.mark.parametrize("user", [b"203.0.113.9", b"2001:db8::9", b"203.0.113.9:51000"])
def test_address_is_never_a_members_name(user):
    assert view(user=user) == "the user is an IP address"


def test_site_has_bots_of_its_own():
    assert view(agent=b"ShopApp/3").kind == "guest"
    assert view(agent=b"ShopApp/3", rules={"bots": ("^nothing$", "^ShopApp/")}).kind == "bot"
    assert view(rules={"bots": ("^ShopApp/",)}).kind == "guest"


def test_visitor_goes_before_the_address_and_is_never_shown():
    assert view(visitor=b"s7").user == view(visitor=b"s7", address=b"::1").user != view().user
    assert b"s7" not in view(visitor=b"s7", rules={"keep_addresses": True}).user
    assert view(visitor=b"-").user == view(visitor=b"undefined").user == view().user


def test_guest_is_no_other_guest_by_sending_an_address_as_a_cookie():
    address = b"198.51.100.7"
    found = Pages(lambda line: record, Rules(keep_addresses=True), key=KEY)
    record = Record(NOON_MS, b"203.0.113.9", b"-", b"GET", b"/a", b"200", BROWSER, visitor=address)
    assert view(visitor=address, address=b"203.0.113.9").user != view(address=address).user
    assert found.parse(b"").user != address
    record = record._replace(address=address, visitor=b"")
    assert found.parse(b"").user == address
    record = record._replace(visitor=address)
    assert found.parse(b"").user != address


def test_addresses_are_kept_if_that_is_asked_for():
    assert view(rules={"keep_addresses": True}).user == b"198.51.100.7"


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        (BROWSER, "guest"),
        (b"", "guest"),
        (b"-", "bot"),
        (b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        (b"curl/8.5.0", "bot"),
        (b"\xff\x00", "guest"),
        (b"x" * 60_000, "guest"),
    ],
)
def test_bot_is_told_by_its_agent(agent, kind):
    assert view(agent=agent).kind == kind


TRUSTED = {"trust_proxy": (read_network("10.0.0.0/8"), read_network("2001:db8::/32"))}


@pytest.mark.parametrize(
    ("address", "forwarded", "client"),
    [
        (b"10.0.0.1", b"198.51.100.7", b"198.51.100.7"),
        (b"10.0.0.1", b"1.1.1.1, 198.51.100.7", b"198.51.100.7"),
        (b"10.0.0.1", b"1.1.1.1, 198.51.100.7,10.0.0.2, 2001:db8::7", b"198.51.100.7"),
        (b"::ffff:10.0.0.1", b"1.1.1.1,198.51.100.7", b"198.51.100.7"),
        (b"10.0.0.1", b"-", b"10.0.0.1"),
        (b"10.0.0.1", b"unknown", b"10.0.0.1"),
        (b"10.0.0.1", b"1.1.1.1, nonsense, 10.0.0.3", b"10.0.0.3"),
        (b"10.0.0.1", b"10.0.0.2", b"10.0.0.2"),
        (b"10.0.0.1", b"203.0.113.9:51000", b"203.0.113.9"),
        (b"10.0.0.1:40000", b"[2001:db9::9]:443", b"2001:db9::9"),
        (b"10.0.0.1", b"203.0.113.15,", b"203.0.113.15"),
        (b"10.0.0.1", b"\\x22203.0.113.17\\x22", b"203.0.113.17"),
        (b"10.0.0.1", b'for=\\"[2001:db9::9]:443\\";proto=https', b"2001:db9::9"),
        (b"10.0.0.1", b"for=1.1.1.1, for=203.0.113.9;by=10.0.0.1", b"203.0.113.9"),
        (b"198.51.100.9", b"198.51.100.7", b"198.51.100.9"),
        (b"host.example.org", b"198.51.100.7", b"host.example.org"),
    ],
)
def test_forwarded_address_is_believed_of_trusted_proxies_alone(address, forwarded, client):
    rules = {"keep_addresses": True}
    assert view(address=address, forwarded=forwarded, rules=rules | TRUSTED).user == client
    assert view(address=address, forwarded=forwarded, rules=rules).user == view(address=address, rules=rules).user


def test_what_no_index_takes_is_refused():
    assert view(user=b"n" * 257) == "the user has 257 bytes, the limit is 256"
    assert view(url=b"/" + b"u" * 2048) == "the url has 2,049 bytes, the limit is 2,048"
    assert view(seen_ms=17) == "the time is before 1973 or after 5138"
    assert view(address=b"") == "no user and no address"


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(pages, "_MAX_CACHED", 10)
    found = Pages(reader_of(), Rules(**TRUSTED), key=KEY)
    for number in range(100):
        line = b'10.0.0.1 - - [01/Mar/2024:12:00:00 +0000] "GET /%d HTTP/1.1" 200 5 "-" "A%d" "1.1.1.%d"'
        assert isinstance(found.parse(line % (number, number, number)), PageView)
        assert isinstance(found.parse(line.replace(b"/%d", b"/%d.js") % (number, number, number)), str)
    for cache in (found._urls, found._reasons, found._guests, found._bots, found._clients):
        assert 0 < len(cache) <= 10


def test_no_long_key_is_kept():
    found = Pages(reader_of(), Rules(**TRUSTED), key=KEY)
    long = b"x" * 1000
    line = b'10.0.0.1 - - [01/Mar/2024:12:00:00 +0000] "GET /%s HTTP/1.1" 200 5 "-" "%s" "1.1.1.1%s"' % ((long,) * 3)
    assert isinstance(found.parse(line), PageView)
    assert not found._urls
    assert not found._clients
    assert [len(agent) for agent in found._bots] == [512]


# --- the key


def test_key_is_made_once_and_nobody_else_may_read_it(tmp_path):
    path = tmp_path / "key"
    key = guest_key(path)
    assert guest_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_the_key_is_new_each_time():
    assert guest_key(None) != guest_key(None)


def test_key_beside_a_state_file_is_hidden(tmp_path):
    assert key_beside(tmp_path / "state") == tmp_path / ".state.key"


def test_key_that_is_too_short_or_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "short").write_bytes(b"secret\n")
    with pytest.raises(ConfigError, match="short has 6 bytes, it must have 16 to 1024"):
        guest_key(tmp_path / "short")
    with pytest.raises(ConfigError, match=r"guest_key .*missing/key: No such file"):
        guest_key(tmp_path / "missing" / "key")


# --- rules from a file and the command line


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_rule_arguments(parser)
    return rules_from(parser.parse_args(arguments))


def test_rules_are_the_same_from_a_file_and_from_options(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        'keep_params = ["p"]\nrewrite = [["^/t", "/topic"]]\nwith_host = true\nguests_only = true\nvisitor = "%{s}C"\n'
        'keep_addresses = true\ntrust_proxy = ["10.0.0.0/8"]\nguest_key = "key"\nbots = ["^X/"]\n'
    )
    options = ["--keep-param", "p", "--rewrite", "^/t", "/topic", "--with-host", "--guests-only", "--visitor", "%{s}C"]
    options += ["--keep-addresses", "--trust-proxy", "10.0.0.0/8", "--guest-key", "key", "--bot", "^X/"]
    assert load_rules(path) == parsed("--rules", str(path)) == parsed(*options) != Rules()
    assert parsed("--rules", str(path), "--keep-param", "q").keep_params == ("q",)


def test_no_option_is_the_default():
    assert parsed() == Rules()


def test_extensions_and_methods_are_told_in_a_file(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text('not_pages = [".CSS", "js"]\nmethods = ["GET"]\n')
    rules = load_rules(path).__dict__
    assert view(url=b"/a.css", rules=rules) == view(url=b"/a.js", rules=rules) == FILE
    assert isinstance(view(url=b"/a.txt", rules=rules), PageView)
    assert view(method=b"POST", rules=rules) == METHOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown rule colour; the rules are keep_params"),
        ("keep_params = 'p'", "keep_params takes a list of strings"),
        ("rewrite = ['a', 'b']", "rewrite takes a list of strings"),
        ("rewrite = [['a']]", "rewrite takes a list of pairs"),
        ("rewrite = [['(', '']]", r"rewrite takes regular expressions; '\(' -> ''"),
        ("rewrite = [['a', '\\1']]", r"rewrite takes regular expressions; 'a' -> '\\\\1'"),
        ("bots = ['(']", r"bots takes regular expressions; '\('"),
        ("with_host = 1", "with_host takes true or false"),
        ("visitor = ''", "visitor takes a string that is not empty"),
        ("trust_proxy = ['10.0.0.1/8']", "trust_proxy takes a network such as 10.0.0.0/8, not '10.0.0.1/8'"),
        ("=", "Invalid statement"),
    ],
)
def test_wrong_rule_is_named_with_its_file(tmp_path, text, message):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"rules.toml: {message}"):
        load_rules(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_rules(tmp_path / "missing.toml")


def test_wrong_option_is_refused():
    with pytest.raises(ConfigError, match=r"--rewrite takes regular expressions"):
        parsed("--rewrite", "(", "")
    with pytest.raises(ConfigError, match=r"--bot takes regular expressions"):
        parsed("--bot", "(")
    with pytest.raises(SystemExit):
        parsed("--trust-proxy", "everybody")
