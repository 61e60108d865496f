"""Names of guests in compiled code: the same as of `online_client`, and SHA-256 the same as of `hashlib`."""

import hashlib
import random

import pytest

from online.core.guests import GuestNames, sha256
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
