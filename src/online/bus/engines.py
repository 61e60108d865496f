"""Which bus a url names, and a connection to it.

    redis://  rediss://                      one Redis or Valkey                       (redisbus)
    redis+sentinel://  rediss+sentinel://    the one that Sentinel says is the master
    redis+cluster://  rediss+cluster://      the node of a cluster that has the stream
    kafka://                                 a topic of Kafka                          (kafkabus)

Not its job: what is asked of a bus (entries). What an engine needs is imported only where its url is used.
"""

import re
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from online import errors
from online.bus.entries import Bus
from online.errors import ConfigError

#: The module of each scheme, and the extra that brings what it needs.
ENGINES = {
    "redis": ("redisbus", "bus"),
    "rediss": ("redisbus", "bus"),
    "redis+sentinel": ("redisbus", "bus"),
    "rediss+sentinel": ("redisbus", "bus"),
    "redis+cluster": ("redisbus", "bus"),
    "rediss+cluster": ("redisbus", "bus"),
    "kafka": ("kafkabus", "kafka"),
}

_HOST = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*", re.ASCII)

#: What may follow the hosts, by what ends a scheme: `redis` and `rediss` have the rest.
_PATHS = {"sentinel": r"(?:/[^/]*(?:/\d*)?)?", "cluster": r"/?", "kafka": r"/?", "": r"(?:/\d*)?"}

#: Options of urls that hold no secret. Kafka knows many, and more with each version: those that are not here may.
_HARMLESS = frozenset((
    *("replicas", "sentinel_user", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"),
    *("ssl_check_hostname", "acks", "client.id", "compression.type", "security.protocol", "sasl.mechanism"),
    *("sasl.mechanisms", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location"),
))

_Result = TypeVar("_Result")


def check_url(url: str) -> str:
    """Return the url of a bus whose engine is installed. Raises ConfigError, without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    hosts = parts.netloc.rpartition("@")[2]
    path = next(path for kind, path in _PATHS.items() if parts.scheme.endswith(kind))
    if parts.scheme not in ENGINES or not _HOSTS.fullmatch(hosts) or not re.fullmatch(path, parts.path, re.ASCII):
        raise ConfigError(
            "the bus must be redis://HOST[:PORT][/DB], redis+sentinel://HOST[:PORT],.../MASTER[/DB], "
            "redis+cluster://HOST[:PORT],... (rediss for TLS) or kafka://HOST[:PORT],..."
        )
    for port in re.findall(r":(\d+)(?:,|$)", hosts):
        if not 1 <= int(port) <= 65_535:
            raise ConfigError(f"the url of the bus has port {port}: a port is a number from 1 to 65535")
    module, extra = ENGINES[parts.scheme]
    try:
        engine: Any = import_module(f"online.bus.{module}")
    except ImportError as error:
        raise errors.more_packages(f"--bus {parts.scheme}://", error, f".[{extra}]") from None
    engine.check(url)
    return url


def shown(url: str) -> str:
    """Return a url with those options alone that hold no secret.

    >>> shown("rediss+sentinel://:secret@10.0.0.1/hits?ssl_keyfile=a&sentinel_password=b")
    'rediss+sentinel://10.0.0.1/hits?ssl_keyfile=a'
    """
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name in _HARMLESS]
    shown_query = parts.query if len(query) == len(parse_qsl(parts.query)) else urlencode(query)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=shown_query))


async def connected(
    url: str, work: Callable[[Bus], Awaitable[_Result]], *, partition: int = 0, window_s: int | None = None
) -> _Result:
    """Do some work with a connection to the bus of a partition, which is closed in the end. Raises BusError.

    With `window_s`, an engine that makes a log where there is none sees to it that it keeps twice as much.
    """
    module: Any = import_module(f"online.bus.{ENGINES[urlsplit(url).scheme][0]}")
    result: _Result = await module.connected(url, work, partition=partition, window_s=window_s)
    return result
