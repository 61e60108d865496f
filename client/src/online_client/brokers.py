"""How a bus is spoken to: one entry after the other, in a stream of Redis or Valkey, or a topic of Kafka.

Not its job: what an entry is (bus). What a broker needs, redis or confluent-kafka, is imported where there is one.

1. Threads may share a broker, and forked children, too. The library of Kafka has threads of its own, which no child
   has: each process opens its own, and never touches its parent's, not even to free it.
"""

import ctypes
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from online_client.errors import AddressError, ConnectionFailed, cannot_connect, missing_package
from online_client.forks import notice_fork, tell_after_fork

_SCHEMES = {"kafka", *(tls + kind for tls in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster"))}

#: What may follow `?` in a url of Redis, as servers have it: always, with TLS, and with Sentinel.
_OPTIONS = ("replicas",)
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL = ("sentinel_user", "sentinel_password")

#: So much of what a bus answers is told.
_TOLD_BYTES = 200

#: How long Kafka may take to say that it is there.
_REACH_S = 5.0


class Broker(ABC):
    """Takes entries."""

    @abstractmethod
    def add(self, source: str, frames: bytes, where: str) -> None:
        """Append an entry. Raises ConnectionFailed, which speaks of `where`."""

    @abstractmethod
    def reach(self, where: str) -> None:
        """See that the bus answers. Raises ConnectionFailed."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


def named(parts: SplitResult, query: dict[str, str], partition: int, timeout: float | None) -> Broker:
    """Return the broker of a url, of which `query` is what follows `?`. Raises AddressError and ImportError."""
    if not _is_good(parts):
        raise AddressError(
            "the bus should be redis://HOST[:PORT][/DB], redis+sentinel://HOST,HOST/MASTER[/DB], "
            "redis+cluster://HOST,HOST (rediss for TLS) or kafka://HOST,HOST, with ?site=NAME"
        )
    if parts.scheme == "kafka":
        return _Kafka(parts, query, partition, timeout)
    _check_options(parts.scheme, query)
    return _Redis(parts, query, partition, timeout)


def _is_good(parts: SplitResult) -> bool:
    if parts.scheme not in _SCHEMES:
        return False
    path = parts.path.strip("/").split("/")
    if parts.scheme.endswith("+sentinel") and not path.pop(0):
        return False
    db = path.pop(0) if path and not parts.scheme.endswith(("+cluster", "kafka")) else ""
    try:
        addresses = _addresses(parts)
    except ValueError:  # of a port
        return False
    return (
        all(host and port != 0 for host, port in addresses)
        and (len(addresses) == 1 or parts.scheme not in ("redis", "rediss"))
        and (not db or (db.isascii() and db.isdigit()))
        and not any(path)
    )


def _check_options(scheme: str, query: dict[str, str]) -> None:
    known = [*_OPTIONS, *(_TLS if scheme.startswith("rediss") else ()), *(_SENTINEL if "+sentinel" in scheme else ())]
    unknown = next((name for name in query if name not in known), None)
    if unknown is not None:
        takes = ", ".join(("site", "partition", *known))
        raise AddressError(f"the url of the bus has ?{unknown[:64]}=, but {scheme}:// takes only {takes}")
    replicas = query.get("replicas", "0")
    if not (replicas.isascii() and replicas.isdigit()):
        raise AddressError(f"?replicas={replicas[:64]} in the url of the bus is not a number")
    if query.get("ssl_check_hostname", "true").lower() not in ("true", "false"):
        raise AddressError("?ssl_check_hostname in the url of the bus is true or false")
    if query.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise AddressError("?ssl_cert_reqs in the url of the bus is none, optional or required")
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if "ssl_certfile" in query or "ssl_keyfile" in query:
            context.load_cert_chain(query.get("ssl_certfile", ""), query.get("ssl_keyfile"))
    except OSError as error:
        raise AddressError(f"the url of the bus has files for TLS that cannot be used: {error}") from None


def _addresses(parts: SplitResult) -> list[tuple[str | None, int | None]]:
    """Return the hosts of a url, each with its port. Raises ValueError."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return [(each.hostname, each.port) for each in (urlsplit(f"//{host}") for host in hosts)]


class _Redis(Broker):
    """One Redis, the master that Sentinel names, or a cluster."""

    def __init__(self, parts: SplitResult, query: dict[str, str], partition: int, timeout: float | None) -> None:
        try:
            import redis.cluster
            import redis.sentinel
        except ImportError as error:
            raise missing_package("a bus needs redis", "bus") from error
        self._library: Any = redis
        self._stream = f"online:hits:{partition}"
        self._parts = parts._replace(query="")
        self._options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if parts.scheme.startswith("rediss"):
            self._options |= {name: query[name] for name in _TLS if name in query}
            checks = query.get("ssl_check_hostname", "true").lower() == "true" and query.get("ssl_cert_reqs") != "none"
            self._options["ssl_check_hostname"] = checks
        self._sentinel = {"username": query.get("sentinel_user"), "password": query.get("sentinel_password")}
        self._replicas, self._wait_ms = int(query.get("replicas", "0")), round(500 * (timeout or 6))
        self._client: Any = None
        if "+" not in parts.scheme:
            self._client = redis.Redis.from_url(urlunsplit(self._parts), **self._options)

    def add(self, source: str, frames: bytes, where: str) -> None:
        fields = {"s": source, "f": frames}
        if not self._replicas:
            self._ask(where, lambda client: client.xadd(self._stream, fields))
            return
        n_have = self._ask(where, lambda client: self._add_and_wait(client, fields))
        if n_have < self._replicas:
            text = f"{n_have} replicas have what was published, of {self._replicas} that should"
            raise ConnectionFailed(f"{where} does not take hits: {text}")

    def _add_and_wait(self, client: Any, fields: dict[str, Any]) -> int:
        """Append an entry, wait for replicas of the node, and return how many have it."""
        if "+cluster" in self._parts.scheme:
            client = client.get_redis_connection(client.get_node_from_key(self._stream))
        with client.pipeline(transaction=False) as pipeline:
            pipeline.xadd(self._stream, fields)
            pipeline.wait(self._replicas, self._wait_ms)
            # The library would quote all that was to be written in the error that it raises itself.
            answers = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return int(answers[1])

    def reach(self, where: str) -> None:
        self._ask(where, lambda client: client.xlen(self._stream))

    def _ask(self, where: str, what: Callable[[Any], Any]) -> Any:
        library = self._library
        try:
            if self._client is None:
                self._client = self._opened()
            return what(self._client)
        except library.ConnectionError as error:
            raise cannot_connect(where, _few_words(error)) from None
        except (library.RedisError, library.exceptions.RedisClusterException) as error:
            if isinstance(error, library.exceptions.MovedError):
                self._client = None  # it did not notice, as a node was asked
            raise ConnectionFailed(f"{where} does not take hits: {_few_words(error)}") from None

    def _opened(self) -> Any:
        """Return a client of several nodes. One of a cluster is connected."""
        scheme, _, kind = self._parts.scheme.partition("+")
        user, _, password = self._parts.netloc.rpartition("@")[0].partition(":")
        addresses = _addresses(self._parts)
        options = {**self._options, **({"ssl": True} if scheme == "rediss" else {})}
        logged_in = {**options, "username": unquote(user) or None, "password": unquote(password) or None}
        if kind == "cluster":
            nodes = [self._library.cluster.ClusterNode(host, port or 6379) for host, port in addresses]
            return self._library.cluster.RedisCluster(startup_nodes=nodes, **logged_in)
        master, _, db = self._parts.path.strip("/").partition("/")
        sentinels = [(host, port or 26379) for host, port in addresses]
        watching = self._library.sentinel.Sentinel(sentinels, sentinel_kwargs={**options, **self._sentinel})
        return watching.master_for(master, db=int(db or 0), **logged_in)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class _Kafka(Broker):
    """A topic of Kafka."""

    def __init__(self, parts: SplitResult, query: dict[str, str], partition: int, timeout: float | None) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise missing_package("a bus of Kafka needs confluent-kafka", "kafka") from error
        self._library: Any = confluent_kafka
        self._topic = f"online.hits.{partition}"
        self._timeout = timeout or 60.0
        login, _, hosts = parts.netloc.rpartition("@")
        self._settings: dict[str, Any] = {"bootstrap.servers": hosts, "log_level": 0, "acks": "all", "linger.ms": 0}
        self._settings["message.timeout.ms"] = round(1000 * self._timeout)
        if login:
            user, _, password = login.partition(":")
            self._settings |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
            self._settings |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
        self._settings |= query
        self._producer: Any = None
        try:
            self._library.Producer(self._settings)
        except self._library.KafkaException as error:
            raise AddressError(f"the url of the bus has a setting that Kafka does not take: {_told(error)}") from None
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Keep what is the parent's for ever: freeing it waits for threads that are not here."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        self._producer = None

    def add(self, source: str, frames: bytes, where: str) -> None:
        producer = self._opened()
        reports: list[Any] = []
        try:
            producer.produce(self._topic, frames, source, 0, on_delivery=lambda error, _: reports.append(error))
            producer.flush(self._timeout + 1)
        except (self._library.KafkaException, BufferError) as error:
            raise ConnectionFailed(f"{where} does not take hits: {_told(error)}") from error
        if reports != [None]:
            told = reports[0].str() if reports else f"no answer within {self._timeout:g} s"
            raise ConnectionFailed(f"{where} does not take hits: {told}")

    def reach(self, where: str) -> None:
        try:
            self._opened().list_topics(timeout=min(self._timeout, _REACH_S))
        except self._library.KafkaException as error:
            raise cannot_connect(where, OSError(_told(error))) from error

    def _opened(self) -> Any:
        notice_fork()
        if self._producer is None:
            self._producer = self._library.Producer(self._settings)
        return self._producer

    def close(self) -> None:
        self._producer = None


def _few_words(error: Exception) -> str:
    """Return what a server said, in a line, without what it quotes of a command."""
    line = " ".join(str(error).partition(", with args")[0].split())
    return line.encode(errors="replace")[:_TOLD_BYTES].decode(errors="ignore")


def _told(error: Exception) -> str:
    return str(error.args[0].str()) if error.args and hasattr(error.args[0], "str") else str(error)
