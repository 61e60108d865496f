"""Visitors whose address compiled code reads have the names that they have with care. See ext/guests.pyx."""

import random

from online.logs.formats import reader_of
from online.logs.pages import Pages
from online.logs.rules import Rules
from online_client.addresses import normal_address

KEY = bytes(16)
LINE = b'%s - - [14/Nov/2023:22:13:20 +0000] "GET /a HTTP/1.1" 200 5 "-" "Mozilla/5.0"'

ADDRESSES = [
    "192.0.2.1", "0.0.0.0", "255.255.255.255", "256.1.1.1", "1.2.3.04", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.",
    ".1.2.3", "1..2.3", "1.2.3.4 ", "1.2.3.4:80", "1.2.3.4\n", "1.2.3.-4", "1.2.3.4\0", "::", "::1", "1::",
    "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7", "1:2:3:4::5:6:7:8", ":::", "::1::", "1:::2", ":1", "1:", "1:2:3:4:5:6:7:", ":2:3:4:5:6:7:8",
    ":", "", "2001:DB8:0:0:1:0:0:1", "2001:db8::0:0:1", "0:0:1:0:0:0:1:0", "1:0:0:2:0:0:0:3", "1:0:2:0:3:0:4:0",
    "0001:0010:0100:1000::", "00001::", "g::", "2001:db8::a%eth0", "[2001:db8::a]:443", "::ffff:192.0.2.1",
    "::ffff:c000:201", "::fffe:c000:201", "::1:ffff:c000:201", "::192.0.2.1", "64:ff9b::192.0.2.1", "localhost",
    "unix:", "-", "2001:db8::" + "0" * 40, "\xb2::", "\xe9",
]  # fmt: skip


def random_addresses(draw, n):
    """Addresses as they are written, and some with a fault."""
    for _ in range(n):
        if draw.random() < 0.3:
            text = ".".join(str(draw.choice([0, 9, 10, 99, 100, 249, 255, 256, 300])) for _ in range(4))
        else:
            groups = [draw.choice(["0", "0", "0000", "1", "0a", "ffff", "FfFf", "12345"[: draw.choice([4, 4, 4, 5])]])
                      for _ in range(draw.choice([8, 8, 8, 7, 6, 4, 2, 9]))]  # fmt: skip
            text = ":".join(groups)
            if draw.random() < 0.6:
                at = draw.randrange(len(groups))
                text = ":".join(groups[:at]) + "::" + ":".join(groups[at + draw.randrange(3) :])
        if draw.random() < 0.3:
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(["", ":", ".", "f", "0", "g", " ", "%"]) + text[at + draw.randrange(2) :]
        yield text


class Counted(Pages):
    """Counts the visitors that were named with care."""

    n_named = 0

    def nameless(self, *known_by):
        self.n_named += 1
        return super().nameless(*known_by)


def pages_that_know_the_url():
    pages = Counted(reader_of("auto"), Rules(), key=KEY)
    pages.parse(LINE % b"198.51.100.1")
    return pages


def test_addresses_have_the_one_form_of_the_client_or_take_the_careful_way():
    pages = pages_that_know_the_url()
    careful = Pages(reader_of("auto").careful, Rules(), key=KEY)
    for text in [*ADDRESSES, *random_addresses(random.Random(5), 20_000)]:
        line, n_named = LINE % text.encode("latin-1"), pages.n_named
        assert pages.parse(line) == careful.parse(line), text
        assert pages.n_named == n_named or normal_address(text) != text or "%" in text, text


def test_usual_addresses_need_no_care():
    pages = pages_that_know_the_url()
    for text in ("192.0.2.1", "::", "2001:DB8::A", "1:2:3:4:5:6:7:8", "fe80:0:0:0:1:2:3:4", "1:2:3:4:5:6:7::"):
        pages.parse(LINE % text.encode())
    assert pages.n_named == 1
