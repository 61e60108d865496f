"""Access-log lines over syslog -> hits: datagrams from nginx, HAProxy, Apache or rsyslog, UDP or a Unix socket.

Not here: to open sockets (listeners), what lines say (formats), which are page views and whose (pages), and what hits
mean (index).

1. A datagram is one line. It gives one hit or is counted, by why not; none ends the task.
2. A turn takes about TURN_S and up to as many lines as are received at once; then everybody else has theirs.
3. Nobody answers for who sends: syslog has no token. So an address beyond this machine is opened only together
   with the networks that may send, and what comes from elsewhere is counted alone. (An address can be forged
   where the network lets it; a firewall has to see to that.)
4. What the kernel dropped, because the server was too slow, is counted as the kernel says, with the next
   datagram that comes.
"""

import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address

import msgpack
import trio

from online.core.datagrams import Datagrams
from online.core.sites import SITE_MAX_BYTES, Sites
from online.core.wire import Service, apply_hits
from online.errors import FullError
from online.logs.formats import reader_of
from online.logs.pages import NO_PAGE_VIEW, PackedViews, Pages, guest_key, key_beside
from online.logs.rules import Network, Rules, load_rules
from online.serve.config import BY_HOST, Address, Config
from online.serve.listeners import open_datagrams
from online.serve.parts import Part
from online.serve.verb import Lines

#: Why a line gave no hit, as INFO lists it: not a page view, without a site, or not understood.
SKIPPED = ("method", "status", "file", "target", "rewrite", "aside", "site", "not_understood")

#: How long a turn may take, but for its last lines.
TURN_S = 0.001

#: How long lines gather once all were taken: so that a wake-up serves many, on a busy site.
PAUSE_S = 0.002

#: A pause needs this much room in the kernel for what comes meanwhile.
ROOM_FOR_A_PAUSE_BYTES = 1024 * 1024

_FRAME_OF_HITS = b"\x93\x02\xa4hits"  #: a notification, up to its parameters

#: Room in the kernel for what comes while others have their turn: a second of a very busy site. The system may
#: give less (net.core.rmem_max).
RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024

#: Linux: with what is received comes how many datagrams this socket has dropped. Python has no name for it.
SO_RXQ_OVFL = 40

#: Sizes of SO_RCVBUF beyond net.core.rmem_max, for those who may (CAP_NET_ADMIN).
SO_RCVBUFFORCE = 33


@dataclass
class SyslogCounts:
    """What has come over syslog."""

    received: int = 0
    hits: int = 0  #: handed to the index, which may still ignore or refuse them
    skipped: Counter[str] = field(default_factory=Counter)  #: by why they were no hits
    foreign: int = 0  #: from networks that may not send
    dropped: int = 0  #: by the kernel, when they came too fast
    buffer_bytes: int = 0  #: room in the kernel, of the smallest socket


class Syslog(Part):
    """The part of a server that receives syslog."""

    name = "syslog"

    def __init__(self, config: Config, sites: Sites, service: Service, now_ms: Callable[[], int]) -> None:
        """Raises ConfigError for a format, rules or a key that cannot be used."""
        self.counts = SyslogCounts()
        self.addresses: tuple[Address, ...] = ()  #: where it receives
        self._config = config
        self._sites = sites
        self._service = service
        self._now_ms = now_ms
        rules = load_rules(config.syslog_rules) if config.syslog_rules is not None else Rules()
        path = rules.guest_key or (key_beside(config.state) if config.syslog and config.state else None)
        read = reader_of(config.syslog_format, visitor=rules.visitor)
        self._pages = Pages(read, rules, key=guest_key(path))
        self._site = None if config.syslog_site == BY_HOST else config.syslog_site.encode(errors="surrogateescape")
        self._sockets: list[_Socket] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open all sockets, or none. Raises ConfigError."""
        config = self._config
        async with open_datagrams(config.syslog, unix_mode=config.unix_mode, purpose="receive syslog at") as opened:
            self.addresses = tuple(address for address, _ in opened)
            self.counts.buffer_bytes = min((_make_room(each) for _, each in opened), default=0)
            for address, each in opened:
                senders = () if address.is_local else config.syslog_from
                self._sockets.append(_Socket(each, senders, self.counts))
            yield

    def told(self) -> Iterator[str]:
        """Say where it receives, and for which site."""
        which = "one site per host" if self._site is None else f"site {self._config.syslog_site}"
        for address in self.addresses:
            yield f"receives syslog at {address} for {which}"

    def info(self) -> Mapping[str, Lines]:
        """Return the section `syslog`."""
        return {"syslog": self._info}

    def _info(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "received", self.counts.received
        yield "hits", self.counts.hits
        for why in SKIPPED:
            yield f"skipped_{why}", self.counts.skipped[why]
        for name in ("foreign", "dropped", "buffer_bytes"):
            yield name, getattr(self.counts, name)

    async def run(self) -> None:
        """Take what comes, in turns, for ever."""
        async with trio.open_nursery() as nursery:
            for each in self._sockets:
                nursery.start_soon(self._receive, each)

    async def _receive(self, receiving: "_Socket") -> None:
        while True:
            await trio.lowlevel.wait_readable(receiving.socket)
            while (pause_s := self._turn(receiving)) is not None:
                await trio.sleep(pause_s)

    def _turn(self, receiving: "_Socket") -> float | None:
        """Take datagrams for about TURN_S; return when to look again, or None if nothing came."""
        until_s = time.perf_counter() + TURN_S
        before = self.counts.received + self.counts.foreign
        hits: dict[bytes, list[PackedViews]] = {}
        is_left = True
        while is_left and time.perf_counter() < until_s:
            is_left = receiving.receive()
            self._take(receiving.datagrams, hits)
        for site, each in hits.items():
            self._give(site, each)
        if self.counts.received + self.counts.foreign == before:
            return None
        return 0.0 if is_left else receiving.pause_s

    def _take(self, datagrams: Datagrams, hits: dict[bytes, list[PackedViews]]) -> None:
        """Add the hits of datagrams to those of their sites, or count why there are none."""
        self.counts.received += len(datagrams)
        for site, views in self._packed(datagrams):
            for reason, number in Counter(views.reasons).items():
                self.counts.skipped[NO_PAGE_VIEW.get(reason, "not_understood")] += number
            if site:
                hits.setdefault(site, []).append(views)
            else:
                self.counts.skipped["site"] += views.number

    def _packed(self, datagrams: Datagrams) -> Iterator[tuple[bytes, PackedViews]]:
        """Yield sites with page views: all at once, unless each datagram names its own."""
        if self._site:
            yield self._site, self._pages.pack_received(datagrams)
            return
        for place in range(len(datagrams)):
            views = self._pages.pack_received(datagrams, place, place + 1)
            yield self._host(), views

    def _host(self) -> bytes:
        """Return the host of the last page view; empty if it has none that can name a site."""
        host = self._pages.host
        return host if host != b"-" and len(host) <= SITE_MAX_BYTES else b""

    def _give(self, site: bytes, pieces: list[PackedViews]) -> None:
        """Apply hits to the index of a site, which begins to exist if there is room for it."""
        number = sum(piece.number for piece in pieces)
        if not number:
            return
        try:
            index = self._sites.open(site)
        except FullError:
            self.counts.skipped["site"] += number
            return
        self.counts.hits += number
        hits = msgpack.Packer().pack_array_header(number) + b"".join(piece.items for piece in pieces)
        if self._service.clock_step_ms:
            times = self._service.index_of
            hits = msgpack.packb([(user, url, times(ms), kind) for user, url, ms, kind in msgpack.unpackb(hits)])
        apply_hits(index, _FRAME_OF_HITS + hits, now_ms=self._now_ms())
        if self._service.journal is not None:
            self._service.journal.flush()


class _Socket:
    """A socket, who may send to it, and how much it has dropped."""

    def __init__(self, receiving: socket.socket, senders: Sequence[Network], counts: SyslogCounts) -> None:
        """Without `senders` everybody may send who can."""
        self.socket = receiving
        self.datagrams = Datagrams(partial(_may_send, senders) if senders else None)
        self.pause_s = PAUSE_S if counts.buffer_bytes >= ROOM_FOR_A_PAUSE_BYTES else 0.0
        self._counts = counts

    def receive(self) -> bool:
        """Receive datagrams, and count those of others and those that were dropped; tell if more may be waiting."""
        datagrams = self.datagrams
        before = datagrams.dropped
        is_left = datagrams.receive(self.socket.fileno())
        self._counts.foreign += datagrams.foreign
        self._counts.dropped += (datagrams.dropped - before) % 2**32
        return is_left


def _may_send(senders: Sequence[Network], address: bytes) -> bool:
    """Tell if an address is within the networks of those who may send."""
    sender = ip_address(address)
    return any(sender in network for network in senders)


def _make_room(receiving: socket.socket) -> int:
    """Ask for room in the kernel, and for the count of what finds none; return how many bytes there are."""
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        with suppress(OSError):
            receiving.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER_BYTES)
            break
    with suppress(OSError):  # Linux alone counts
        receiving.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    return receiving.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
