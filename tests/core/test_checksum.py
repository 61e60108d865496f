"""The checksum of records: the published values, and the same with and without the processor's instruction."""

import random

import pytest

from online.core.checksum import crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [  # RFC 3720, B.4
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_the_published_values(data, checksum):
    assert crc32c(data) == crc32c(data, by_table=True) == checksum


def test_with_and_without_the_processor_it_is_the_same():
    draw = random.Random(3)
    for length in (*range(70), 1_000, 65_537):
        data = draw.randbytes(length)
        assert crc32c(data) == crc32c(data, by_table=True)
        cut = draw.randrange(length + 1)
        assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)
