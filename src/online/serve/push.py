"""Channels: who is told when something changes, and of what.

The one place that knows channels and subscribers. What a channel is asked, and its answer as JSON, is said in
ext/states.pyx; how subscribers come is said by verbs_push (RESP, MessagePack) and http/events (SSE).

    count           the people on the site
    page:URL        PAGE: people online, people here, the newest 30 of those who may be named
    section:PREFIX  SECTION: people and pages
    top             TOP: the ten pages with most people
    user:NAME       SEEN: where a user is

A hit knows nothing of this, and costs what it did. Instead each watched channel is asked what it answers now, once an
interval, and whoever was told something else is told that. So expiry, and whatever else changes an answer, needs no
notice; and a state is always whole and the newest.

Invariants:
1. A channel is asked once an interval and its answer written once for each dialect, however many subscribe to it.
2. Who has not taken what was sent before is passed over, and told the newest state once that has gone. No state waits
   here: a channel keeps a hash of its last one, and a subscriber the hash of what it was told.
3. A connection has at most max_subscriptions, all together max_all_subscriptions.
4. All of it is done in slices.
5. Where others know the answers (`elsewhere`), a channel has one question under way, and at most MOST_ASKED have.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import msgpack
import trio

from online import errors
from online.core.index import Index
from online.core.sites import Sites
from online.core.states import States, quoted
from online.core.wire import Service
from online.serve.connections import Peer
from online.serve.slices import Slices

#: What strangers may know: how many people are on the site, a page or a section; on a page also which members.
PUBLIC_COUNT, PUBLIC_PAGE = PUBLIC = ("count", "page")

#: Channels that are asked, or subscribers that are told, before others have their turn: 0.1 ms.
PIECE = 16

#: Channels with a question under way elsewhere. The others, asked longest ago, are the first of the next interval.
MOST_ASKED = 8_192

#: A state without its last brace, and the wall time that it is of, in ms.
_Answer = tuple[bytes, int]

#: What tells channels apart: site, name, and how it is asked.
_Key = tuple[bytes, bytes, Callable[..., object]]


class Channel:
    """What somebody watches on one site."""

    __slots__ = ("ask", "is_asked", "is_owed", "known", "late", "name", "of", "site", "subscribers")

    def __init__(self, site: bytes, name: bytes, ask: Callable[..., object], of: bytes) -> None:
        self.site = site
        self.name = name
        self.ask = ask
        self.of = of
        self.known = 0  # the hash of its last state; 0: there is none yet
        self.is_owed = False  # somebody was not told its last state
        self.subscribers: dict[Subscriber, int] = {}  # each with the hash of what it was told
        self.is_asked = False  # a question is under way elsewhere
        self.late: list[Subscriber] = []  # who has come since then


class State:
    """A state of a channel on its way to subscribers."""

    __slots__ = ("_written", "at_ms", "body", "name")

    def __init__(self, name: bytes, body: bytes, at_ms: int) -> None:
        self.name = name  #: of the channel
        self.body = body  #: a JSON object, without its last brace
        self.at_ms = at_ms
        self._written: dict[Writer, bytes] = {}

    def json(self) -> bytes:
        """Return the state as JSON, with the moment that it is of."""
        return b'%b,"at_ms":%d}' % (self.body, self.at_ms)

    def written(self, write: "Writer") -> bytes:
        """Return the message that tells of it in one dialect, which is made once."""
        message = self._written.get(write)
        if message is None:
            message = self._written[write] = write(self)
        return message


Writer = Callable[[State], bytes]


def write_resp2(state: State) -> bytes:
    """A `message` array, as of a channel of Redis."""
    json = state.json()
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(state.name), state.name, len(json), json)


def write_resp3(state: State) -> bytes:
    """The same as a push message."""
    return b">" + write_resp2(state)[1:]


def write_msgpack(state: State) -> bytes:
    """A notification `state`."""
    try:
        name: str | bytes = state.name.decode()
    except UnicodeDecodeError:
        name = state.name
    message: bytes = msgpack.packb([2, "state", [name, state.json().decode()]])
    return message


def write_event(state: State) -> bytes:
    """An event of SSE. It names its channel in its data, as an event with a name of its own reaches fewer listeners."""
    return b"id: %d\ndata: %b\n\n" % (state.at_ms, json_of(state))


def json_of(state: State) -> bytes:
    """Return a state with its channel in it."""
    return b'{"channel":%b,%b' % (quoted(state.name), state.json()[1:])


class Subscriber:
    """Somebody who is told. Leaves for good with its connection."""

    __slots__ = ("_has_room", "_push", "_round", "_writer", "channels", "peer")

    def __init__(self, push: "Push", peer: Peer, writer: Callable[[], Writer]) -> None:
        """Begin without channels. `writer` says in which dialect to write now."""
        self.peer = peer
        self.channels: dict[bytes, Channel] = {}
        self._push = push
        self._writer = writer
        self._round = 0
        self._has_room = True

    def take(self, state: State, now_ms: int, in_round: int | None) -> bool:
        """Tell a state, or return False: `in_round` nothing is told to who has not got what was sent before it."""
        if in_round is not None and self._round != in_round:
            self._round = in_round
            self._has_room = self.peer.has_room
        return (in_round is None or self._has_room) and self.peer.offer(state.written(self._writer()), now_ms=now_ms)

    def leave(self) -> None:
        """End all subscriptions."""
        for name in list(self.channels):
            self._push.unsubscribe(self, name)


class Push:
    """All channels that are watched."""

    def __init__(self, service: Service, sites: Sites) -> None:
        self.events = 0  #: states that were sent
        self.skipped = 0  #: states that were not, because something sent before was still on its way
        self.n_subscriptions = 0
        #: Asks for the state of a channel (its site, its name), and hands it over, now or later. None: sites know it.
        self.elsewhere: Callable[[bytes, bytes, Callable[[bytes, int], None]], None] | None = None
        self._limits = service.limits
        self._service = service
        self._sites = sites
        self._nobody = Index(window_s=sites.window_s, max_url=self._limits.max_url, max_user=self._limits.max_user)
        self._states = States()
        self._pages = {PUBLIC_PAGE: self._states.members, PUBLIC_COUNT: self._states.here}
        #: How a channel is asked, how long what it is of is at least, and which limit says how long at most.
        self._kinds: Mapping[bytes, tuple[Callable[..., object], int, str]] = {
            b"count": (self._states.count, 0, "max_url"),
            b"top": (self._states.top, 0, "max_url"),
            b"page": (self._states.page, 1, "max_url"),
            b"section": (self._states.section, 0, "max_url"),
            b"user": (self._states.user, 1, "max_user"),
        }
        self._channels: OrderedDict[_Key, Channel] = OrderedDict()  # the one asked last is the last
        self._new: OrderedDict[Channel, list[Subscriber]] = OrderedDict()  # who has been told nothing yet
        self._answers: deque[tuple[Channel, _Answer, list[Subscriber] | None, int | None]] = deque()  # from elsewhere
        self._n_asked = 0  # questions that are under way there
        self._news = trio.Event()
        self._round = 0

    @property
    def n_channels(self) -> int:
        return len(self._channels)

    # Who watches what

    def subscribe(
        self, subscriber: Subscriber, site: bytes, names: list[bytes], public: str | None = None
    ) -> list[int]:
        """Let `subscriber` be told of channels on a site: of their states at once, and of changes from then on.

        A channel that it has already, on whichever site, becomes the one on this site. Returns how many it had after
        each. With `public`, states have what strangers may know. Raises CommandError, RangeError, NotPermittedError or
        FullError, having changed nothing.
        """
        asked = [self._kind_of(name, public) for name in names]
        limits = self._limits
        n_new = len(set(names) - subscriber.channels.keys())
        if len(subscriber.channels) + n_new > limits.max_subscriptions:
            raise errors.too_many_subscriptions("max_subscriptions", limits.max_subscriptions)
        if self.n_subscriptions + n_new > limits.max_all_subscriptions:
            raise errors.too_many_subscriptions("max_all_subscriptions", limits.max_all_subscriptions)
        counts = []
        for name, (ask, of) in zip(names, asked, strict=True):
            self.unsubscribe(subscriber, name)
            channel = self._channels.get((site, name, ask))
            if channel is None:
                channel = self._channels[site, name, ask] = Channel(site, name, ask, of)
            channel.subscribers[subscriber] = 0
            subscriber.channels[name] = channel
            self.n_subscriptions += 1
            self._new.setdefault(channel, []).append(subscriber)
            counts.append(len(subscriber.channels))
        self._news.set()
        return counts

    def unsubscribe(self, subscriber: Subscriber, name: bytes) -> None:
        """End a subscription, if there is one. O(1)."""
        channel = subscriber.channels.pop(name, None)
        if channel is None:
            return
        del channel.subscribers[subscriber]
        self.n_subscriptions -= 1
        if not channel.subscribers:
            del self._channels[channel.site, channel.name, channel.ask]

    def confine(self, subscriber: Subscriber, site: bytes) -> None:
        """End the subscriptions to channels of other sites."""
        for name, channel in list(subscriber.channels.items()):
            if channel.site != site:
                self.unsubscribe(subscriber, name)

    def answer(self, site: bytes, name: bytes, public: str | None, now_ms: int) -> State | None:
        """Return the state of a channel now, or None if it is to be asked again. Raises as `subscribe`."""
        answer = self._ask(Channel(site, name, *self._kind_of(name, public)), now_ms)
        return None if answer is None else State(name, *answer)

    def _kind_of(self, name: bytes, public: str | None) -> tuple[Callable[..., object], bytes]:
        """Return how a channel is asked, and what it is of. Raises CommandError, RangeError or NotPermittedError."""
        kind, colon, of = name.partition(b":")
        if kind not in self._kinds or bool(colon) != (kind not in (b"count", b"top")):
            raise errors.bad_channel(name)
        ask, least, limit = self._kinds[kind]
        most: int = getattr(self._service.limits, limit)
        if not least <= len(of) <= most:
            raise errors.bad_name({b"user": "user", b"page": "url"}.get(kind, "prefix"), of, most)
        if public is not None and kind in (b"top", b"user"):
            raise errors.not_public("the channels top and user:NAME")
        return self._pages[public] if public is not None and kind == b"page" else ask, of

    # Telling

    async def run(self, slices: Slices, now_ms: Callable[[], int]) -> None:
        """Tell whoever is new at once, and everybody of changes at each interval, for ever. `now_ms`: index time."""
        interval_s = self._limits.push_interval_s
        due_s = math.inf
        while True:
            if not self._new and not self._answers:
                self._news = trio.Event()
                with trio.move_on_at(due_s):
                    await self._news.wait()
            if self._new:
                await slices.finish("push", self._tell_new(now_ms))
            if self._answers:
                await slices.finish("push", self._tell_answers(now_ms))
            if trio.current_time() >= due_s:
                if self._service.loading is None:  # else nobody knows what is so
                    await slices.finish("push", self._tell_changes(now_ms))
                due_s = max(due_s + interval_s, trio.current_time())
            if not self._channels:
                due_s = math.inf
            elif due_s == math.inf:
                due_s = trio.current_time() + interval_s

    def _tell_new(self, now_ms: Callable[[], int]) -> Iterator[None]:
        """Tell those who have just subscribed the states of their channels."""
        while self._new:
            channel, subscribers = self._new.popitem(last=False)
            yield from self._look(channel, subscribers, now_ms, None)
            yield

    def _tell_changes(self, now_ms: Callable[[], int]) -> Iterator[None]:
        """Ask each channel once, and tell whoever was told something else before."""
        self._round += 1
        for n in range(len(self._channels)):
            if not self._channels or self._n_asked >= MOST_ASKED:
                return
            key, channel = next(iter(self._channels.items()))
            self._channels.move_to_end(key)
            yield from self._look(channel, None, now_ms, self._round)
            if n % PIECE == PIECE - 1:
                yield

    def _look(
        self, channel: Channel, new: list[Subscriber] | None, now_ms: Callable[[], int], in_round: int | None
    ) -> Iterator[None]:
        """Ask a channel, and tell its state to those of `new`, or to all; later, if it is asked elsewhere."""
        if self.elsewhere is not None:
            self._ask_elsewhere(channel, new, in_round)
            yield  # it takes as long as a piece
            return
        while (answer := self._ask(channel, now_ms())) is None:
            yield
        yield from self._tell(channel, answer, new, now_ms, in_round)

    def _ask_elsewhere(self, channel: Channel, new: list[Subscriber] | None, in_round: int | None) -> None:
        assert self.elsewhere is not None
        if channel.is_asked:
            channel.late += new or ()
        elif channel.subscribers:
            channel.is_asked = True
            self._n_asked += 1
            self.elsewhere(channel.site, channel.name, partial(self._answered, channel, new, in_round))

    def _answered(
        self, channel: Channel, new: list[Subscriber] | None, in_round: int | None, body: bytes, at_ms: int
    ) -> None:
        """Take an answer from elsewhere. Ask again for who came meanwhile: their state is of a time after that."""
        channel.is_asked = False
        self._n_asked -= 1
        self._answers.append((channel, (body, at_ms), new, in_round))
        if channel.late:
            self._new.setdefault(channel, []).extend(channel.late)
            channel.late = []
        self._news.set()

    def _tell_answers(self, now_ms: Callable[[], int]) -> Iterator[None]:
        """Tell what has come from elsewhere."""
        while self._answers:
            channel, answer, new, in_round = self._answers.popleft()
            yield from self._tell(channel, answer, new, now_ms, in_round)
            yield

    def _tell(
        self,
        channel: Channel,
        answer: _Answer,
        new: list[Subscriber] | None,
        now_ms: Callable[[], int],
        in_round: int | None,
    ) -> Iterator[None]:
        """Tell a state to those of `new`, or to all, who were told another, or nothing."""
        body, at_ms = answer
        known = hash(body)
        if new is None and known == channel.known and not channel.is_owed:
            return
        channel.is_owed = new is not None and (channel.is_owed or known != channel.known)
        channel.known = known
        state = State(channel.name, body, at_ms)
        for n, subscriber in enumerate(list(channel.subscribers) if new is None else new):
            told = channel.subscribers.get(subscriber)
            if told is None or told == known:
                continue  # it has left, or knows
            if not subscriber.take(state, now_ms(), in_round):
                channel.is_owed = True
                self.skipped += 1
                continue
            self.events += 1
            if subscriber in channel.subscribers:  # telling may have found that it has gone
                channel.subscribers[subscriber] = known
            if n % PIECE == PIECE - 1:
                yield

    def _ask(self, channel: Channel, now_ms: int) -> _Answer | None:
        index = self._sites.get(channel.site, self._nobody)
        return channel.ask(  # type: ignore[return-value]
            index, channel.of, now_ms=now_ms, step_ms=self._service.clock_step_ms
        )
