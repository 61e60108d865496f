"""The map of partitions: who owns a user, and what is said of a map that is wrong."""

import json
import tomllib
from pathlib import Path
from zlib import crc32

import pytest

from online import partitions as read_by_servers
from online.errors import ConfigError
from online_client import AddressError, partitions

HALVES = """
format = 1
version = 7
[partition.0]
slots = "0-8191"
servers = ["online://:secret@10.0.0.5:8989", "online://10.0.0.6:8989"]
[partition.3]
slots = "8192-16000, 16001,16002-16383"
servers = ["online://10.0.0.7:8989"]
"""


def changed(old: str, new: str) -> str:
    assert HALVES.count(old) == 1
    return HALVES.replace(old, new)


WRONG = {
    "toml": ("[", "is no TOML"),
    "no format": (changed("format = 1", ""), "format is missing; write: format = 1"),
    "format": (changed("format = 1", "format = 2"), "format takes 1, not 2"),
    "version": (changed("version = 7", "version = 0"), "version takes a whole number from 1 on, not 0"),
    "no version": (changed("version = 7", ""), "version takes a whole number from 1 on, not None"),
    "no partitions": ("format = 1\nversion = 1\n", "needs 1 to 1,024 partitions"),
    "unknown key": (changed("version = 7", "version = 7\nwindow = 3"), "not 'window'"),
    "unknown key within": (changed('servers = ["online://10.0.0.7:8989"]', "server = 1"), "not 'server'"),
    "no servers": (changed('["online://10.0.0.7:8989"]', "[]"), "partition.3 needs servers"),
    "number": (changed("partition.3", "partition.x"), "not 'x'"),
    "number twice": (changed("partition.3", "partition.00"), "not '00'"),
    "gap": (changed("0-8191", "0-8000"), "no partition has the slots 8001-8191"),
    "gap at the end": (changed("16002-16383", "16002-16382"), "no partition has the slots 16383-16383"),
    "overlap": (changed("0-8191", "0-8192"), "slot 8192 is of two partitions: partition.0 and partition.3"),
    "backwards": (changed("0-8191", "8191-0"), "partition.0 needs slots"),
    "too many": (changed("16002-16383", "16002-16384"), "partition.3 needs slots"),
    "a long number": (changed("partition.3", f"partition.{5_000 * '1'}"), "a partition has a number from 0 to"),
    "a long slot": (changed("0-8191", f"0-{5_000 * '1'}"), "partition.0 needs slots"),
    "format is true": (changed("format = 1", "format = true"), "format takes 1, not True"),
    "began": (changed("[partition.3]", "[partition.3]\nbegan = 2026"), "3: began takes a time with its zone"),
    "began nowhere": (changed("[partition.3]", "[partition.3]\nbegan = 2026-11-29T12:00:00"), "3: began takes a time"),
    "no slots": (changed('slots = "0-8191"', "slots = 5"), "partition.0 needs slots"),
}


def test_every_user_has_one_owner() -> None:
    found = partitions.parse(HALVES)
    assert found.version == 7
    assert [each.number for each in found.partitions] == [0, 3]
    assert len(found.owners) == partitions.SLOTS
    for number in range(1_000):
        user = b"user-%d" % number
        assert found.place(user) == (crc32(user) % 16_384 >= 8_192)


def test_a_partition_may_say_when_it_began() -> None:
    text = changed("[partition.3]", "[partition.3]\nbegan = 2026-11-29T13:00:00.5+01:00")
    assert [each.began_ms for each in partitions.parse(text).partitions] == [0, 1_795_953_600_500]


def test_tokens_in_a_map_are_not_shown() -> None:
    assert "secret" not in repr(partitions.parse(HALVES))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_map_is_said(name: str) -> None:
    text, said = WRONG[name]
    with pytest.raises(AddressError) as caught:
        partitions.parse(text)
    assert said in str(caught.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        read_by_servers.read(tmp_path / "none.toml")
    path = tmp_path / "map.toml"
    path.write_text("format = 9")
    with pytest.raises(ConfigError, match=r"map\.toml: format takes 1"):
        read_by_servers.read(path)


def test_a_map_may_be_written_in_json(tmp_path: Path) -> None:
    given = tomllib.loads(HALVES)
    given["partition"]["3"]["began"] = "2026-11-29T13:00:00.5+01:00"
    path = tmp_path / "map.json"
    path.write_text(json.dumps(given))
    text = changed("[partition.3]", "[partition.3]\nbegan = 2026-11-29T13:00:00.5+01:00")
    assert read_by_servers.read(path) == partitions.parse(text)
    twice = '{"version": 1, "version": 2}', "is no JSON: 'version' stands there twice"
    for wrong, said in (("format = 1", "is no JSON"), ("[1]", "takes an object"), (50_000 * "[", "is no JSON"), twice):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=said):
            read_by_servers.read(path)


def test_the_map_in_deploy_is_good() -> None:
    found = partitions.read(Path(__file__).parents[2] / "deploy" / "map.toml")
    assert [len(each.servers) for each in found.partitions] == [2, 2, 2, 2]
