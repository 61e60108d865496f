"""Names of guests in compiled code: the same as of `online_client`, and SHA-256 the same as of `hashlib`."""

import hashlib
import random

import pytest

from online.core.guests import GuestNames, sha256, usual_address
from online_client.addresses import normal_address
from online_client.guests import bot_name, guest_name


def test_the_hash_is_that_of_hashlib_with_and_without_the_processor():
    draw = random.Random(3)
    for length in (*range(260), 1_000, 65_537):
        data = draw.randbytes(length)
        assert sha256(data) == sha256(data, in_c=True) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("n_key", [0, 1, 32, 63, 64, 65, 1_024])
def test_names_are_those_of_the_client(n_key):
    draw = random.Random(n_key)
    key = draw.randbytes(n_key)
    names = GuestNames(key)
    for agent in (b"", b"-", b"--", b"\0", *map(draw.randbytes, range(513))):
        address = draw.randbytes(draw.randrange(41))
        assert names.guest(address, agent) == guest_name(key, address, agent)
        assert names.bot(address, agent) == bot_name(key, address, agent)


@pytest.mark.parametrize(("n_address", "n_agent"), [(41, 0), (0, 513)])
def test_what_is_too_long_is_refused(n_address, n_agent):
    with pytest.raises(ValueError, match="takes the careful way"):
        GuestNames(b"key").guest(bytes(n_address), bytes(n_agent))


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


def test_addresses_have_the_one_form_of_the_client_or_take_the_careful_way():
    for text in [*ADDRESSES, *random_addresses(random.Random(5), 20_000)]:
        usual = usual_address(text.encode("latin-1"))
        normal = normal_address(text)
        assert usual.decode() in ("", normal), text
        assert usual or normal != text or "%" in text, text


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "::", "2001:DB8::A", "1:2:3:4:5:6:7:8", "fe80:0:0:0:1:2:3:4", "1:2:3:4:5:6:7::"]
)
def test_usual_addresses_need_no_care(text):
    assert usual_address(text.encode()).decode() == normal_address(text)
