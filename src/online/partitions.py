"""The map of partitions, as the client reads it (online_client/partitions.py), with errors of settings."""

from pathlib import Path

from online.errors import ConfigError
from online_client import partitions
from online_client.errors import AddressError
from online_client.partitions import MAX_PARTITIONS as MAX_PARTITIONS
from online_client.partitions import SLOTS as SLOTS
from online_client.partitions import Partition as Partition
from online_client.partitions import PartitionMap as PartitionMap


def is_newer(owners: PartitionMap, before: PartitionMap) -> bool:
    """Return whether a map is another than the one that was read before. Raises ConfigError if it is not newer."""
    if owners == before:
        return False
    if owners.version <= before.version:
        raise ConfigError(f"the map has version {owners.version}, and another of {before.version} is in use")
    return True


def read(path: Path) -> PartitionMap:
    """Read a map from a file. Raises ConfigError, which names the file."""
    try:
        return partitions.read(path)
    except AddressError as error:
        raise ConfigError(str(error)) from None
