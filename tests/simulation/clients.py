"""Clients that send hits and leaves, and know which were answered."""

from contextlib import suppress
from typing import NamedTuple

import msgpack
import trio
from tests.wiring import RespError, notification, read_resp, request, resp

#: What a client may be like.
MANNERS = ("whole", "pieces", "slow", "vanishing")

SLOW_S = 0.7

#: Nobody waits longer for an answer.
PATIENCE_S = 600


class Step(NamedTuple):
    """A hit, or a leave with an empty url."""

    user: bytes
    url: bytes
    kind: str
    seen_ms: int  #: wall time


def in_resp(step):
    """A step as a command."""
    if not step.url:
        return resp("LEAVE", step.user, step.seen_ms)
    return resp("HIT", step.user, step.url, step.seen_ms, step.kind)


def in_pack(step):
    """A step as a request."""
    if not step.url:
        return request("LEAVE", step.user, step.seen_ms)
    return request("hits", [step.user, step.url, step.seen_ms, step.kind])


class SimulatedClient:
    """Says some steps, in one dialect and one manner."""

    def __init__(self, world, site, steps):
        self.draw = world.draw
        self.steps = steps
        self.taken = []  #: answered, and so certain
        self.open = list(steps)  #: sent, or about to be
        self.refused = []  #: answered with MISCONF or LOADING, which says nothing of what the index has
        self.is_pack = self.draw.random() < 0.5
        self.manner = self.draw.choice(MANNERS)
        self.site = site
        self.world = world

    def message(self):
        """All of it, and how many answers there will be."""
        head = request("SITE", self.site) if self.is_pack else resp("SITE", self.site)
        say = in_pack if self.is_pack else in_resp
        return head + b"".join(map(say, self.steps)), 1 + len(self.steps)

    async def talk(self):
        """Send, and take the answers, until the server or the client is gone."""
        data, n_answers = self.message()
        peer = self.world.join()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.fail_after(PATIENCE_S):
            await self._send(peer, data)
            if self.manner != "vanishing":
                await self._receive(peer, n_answers)
        await trio.aclose_forcefully(peer.stream)

    async def _send(self, peer, data):
        if self.manner == "vanishing":
            data = data[: self.draw.randrange(len(data))]
        n_bytes = len(data) if self.manner == "whole" else self.draw.randint(1, 40)
        for begin in range(0, len(data), n_bytes):
            await peer.send(data[begin : begin + n_bytes])
            if self.manner == "slow" and self.draw.random() < 0.2:
                await trio.sleep(SLOW_S)

    async def _receive(self, peer, n_answers):
        received, answers = b"", []
        while len(answers) < n_answers:
            chunk = await peer.receive()
            if not chunk:
                return
            received += chunk
            answers = self._answers(received)
            self._take(answers[1:])

    def _answers(self, received):
        """The whole answers in bytes."""
        if self.is_pack:
            unpacker = msgpack.Unpacker()
            unpacker.feed(received)
            return [answer[2] for answer in unpacker]
        whole, end, _ = received.rpartition(b"\r\n")
        return [str(each) if isinstance(each, RespError) else None for each in read_resp(whole + end)]

    def _take(self, answers):
        """Learn what became of the first steps."""
        for step in self.open[: len(answers) - len(self.taken) - len(self.refused)]:
            error = answers[len(self.taken) + len(self.refused)]
            if error is None:
                self.taken.append(step)
            else:
                code = error[0] if self.is_pack else error.split()[0]
                assert code in ("MISCONF", "LOADING"), error
                self.refused.append(step)
        self.open = self.steps[len(self.taken) + len(self.refused) :]


def nonsense(draw):
    """Something that no client says."""
    return draw.choice(
        [
            draw.randbytes(draw.randint(1, 60)),
            b"$1073741824\r\n",
            b"*2\r\n$3\r\nHIT\r\n$99999999\r\n",
            b"\x94\x00\x01\xa4hits\xdd\xff\xff\xff\xff",
            notification("hits", ["", ""], [1], {}),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ]
    )
