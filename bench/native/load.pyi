"""Sends hits and questions to a server over sockets, checks every answer, and takes the time. No GIL, no objects.

A wrong answer raises ValueError; none for 20 seconds, TimeoutError; a server that goes away, ConnectionError.
"""

from typing import Literal, NamedTuple

class Became(NamedTuple):
    """What the answers to batches add up to."""

    accepted: int
    ignored: int
    refused: int

class Closed(NamedTuple):
    took_s: float
    became: Became
    users: int  # in all lists

class Opened(NamedTuple):
    took_s: float
    became: Became
    users: int  # in all lists
    batch_ns: list[int]  # how long each batch took from when it was due
    question_ns: list[int]  # and each question

def closed_loop(
    port: int,
    items: list[bytes],
    answer: Literal["same", "batch", "count", "page"],
    *,
    expected: bytes = b"",
    window: int = 8,
    most_users: int = 30,
) -> Closed:
    """Send items over one connection to a port of loopback, at most `window` of them ahead of their answers.

    Each is answered by the bytes `expected` ("same"; an item may be many commands), by what became of a `hits`
    request ("batch"), by an integer in RESP ("count") or by a PAGE in RESP ("page").
    """

def open_loop(
    port: int,
    frames: list[bytes],
    questions: list[bytes],
    *,
    frames_a_second: float,
    questions_a_second: float,
    connections: int = 4,
    window: int = 0,
    most_users: int = 30,
    most_s: float = 120.0,
) -> Opened:
    """Send `hits` requests over one connection, each when it is due, and until the last is answered ask over others.

    `questions` are COUNT or PAGE commands in RESP, asked in turn, over and over, on `connections` connections in
    turn. A latency counts from when its item was due. With `frames_a_second` 0 a frame is due at once; then `window`
    is how many may wait for their answers (0: any number).
    """
