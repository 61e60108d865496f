"""Lines and datagrams that were once read wrongly, a file each in `faults/`: whose page views they are."""

from pathlib import Path

import pytest

from online.logs.formats import reader_of
from online.logs.hitlog import LogReader
from online.logs.pages import NO_PAGE_VIEW, STATUS, Pages, PageView
from online.logs.rules import Rules, read_network
from online.logs.syslogheader import message_of

FOLDER = Path(__file__).parent / "faults"

MINUTE_MS = 1_795_753_200_000  # 2026-11-27 04:20:00 UTC


def views(name, **rules):
    """What becomes of each line of a file."""
    pages = Pages(reader_of(), Rules(**rules), key=b"k" * 32)
    lines = list(LogReader().lines_of(str(FOLDER / name)))
    return [pages.parse(message_of(line) if name.endswith(".datagrams") else line) for line in lines]


def people(name, **rules):
    """Who they are, in clear, where all lines are page views by guests."""
    found = views(name, keep_addresses=True, **rules)
    assert {view.kind for view in found} == {"guest"}
    return [view.user.decode() for view in found]


def test_absolute_form_is_the_page_of_its_path():
    assert [view.url for view in views("01-absolute-form-varnish.log")] == [b"/a", b"/a", b"/abs", b"/"]
    with_host = [view.url for view in views("01-absolute-form-varnish.log", with_host=True)]
    assert with_host == [b"www.example.com/a", b"localhost/a", b"www.example.com/abs", b"www.example.com/"]


def test_words_in_front_of_a_line_are_taken_off():
    assert people("02-prefixed-lines.log") == ["192.0.2.1"] * 4


def test_port_and_brackets_are_no_part_of_a_forwarded_address():
    assert people("03-xff-with-port.log", trust_proxy=(read_network("10.0.0.0/8"),)) == [
        "203.0.113.9", "203.0.113.10", "2001:db8::9", "2001:db8::a", "203.0.113.11", "203.0.113.12", "10.0.0.1",
        "10.0.0.1", "203.0.113.14", "203.0.113.15", "203.0.113.16", "203.0.113.17",
    ]  # fmt: skip


def test_agent_sent_empty_is_a_bot_in_every_format():
    assert [view.kind for view in views("05-json-empty-agent.log")] == ["bot"] * 4


def test_every_header_of_syslog_is_taken_off():
    assert people("06-syslog-headers.datagrams") == ["192.0.2.1"] * 13


@pytest.mark.parametrize("name", ["07-bom.log", "08-nul-prefix-after-copytruncate.log"])
def test_bom_and_zeros_are_no_part_of_an_address(name):
    assert people(name) == ["192.0.2.1"] * 2


def test_closed_websocket_and_no_answer_are_no_page_views():
    first, *others = views("09-websocket-101.log")
    assert isinstance(first, PageView)
    assert others == [STATUS] * 3


def test_port_makes_no_other_guest():
    assert people("14-address-with-port.log") == ["192.0.2.1"] * 3 + ["2001:db8::a"] * 2


@pytest.mark.parametrize(
    ("name", "milliseconds"),
    [
        ("18-caddy-time-formats.log", [0, 123, 123, 0]),
        ("19-json-nginx-request-field.log", [0]),
        ("21-json-time.log", [123, 123, 1_483_228_800_000 - MINUTE_MS, 123, 0]),
    ],
)
def test_time_is_read_in_every_way_of_writing_it(name, milliseconds):
    assert [view.seen_ms - MINUTE_MS for view in views(name)] == milliseconds
    assert {view.url for view in views(name)} == {b"/a"}


def test_garbage_that_was_refused_is_understood():
    assert [NO_PAGE_VIEW[view] for view in views("24-json-nginx-garbage.log")] == ["status"]
