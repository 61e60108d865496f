"""An open loop over HTTP: each request is sent when it is due, over connections that stay, and timed from then.

Its job: a fixed rate, and how long each answer took. Not its job: what is asked, and the web server. Python sends
5,000 requests a second with a third of a core.

Invariants:
1. A latency counts from when the request was due, not from when it could be sent.
2. All answers are of one length, which the first one tells: what is longer or shorter raises ValueError.
"""

import select
import socket
import time
from collections import deque

PATIENCE_S = 10.0


def one_answer(port: int, request: bytes) -> int:
    """Ask once; return how many bytes the answer has."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = connection.recv(65_536)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or b"Content-Length: %d\r\n" % len(body) not in head + b"\r\n":
        raise ValueError(f"the answer is not one that can be timed: {answer!r}")
    return len(answer)


def open_loop(port: int, requests: list[bytes], *, a_second: float, connections: int = 32) -> list[float]:
    """Send requests at a rate to a port of loopback; return how long each took from when it was due, in ms.

    One that is due when all connections are busy waits for the first that is free.
    """
    n_bytes = one_answer(port, requests[0])
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    poll = select.epoll()
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.setblocking(False)
        poll.register(each, select.EPOLLIN)
    try:
        return _run({each.fileno(): each for each in sockets}, poll, requests, a_second, n_bytes)
    finally:
        poll.close()
        for each in sockets:
            each.close()


def _run(
    sockets: dict[int, socket.socket], poll: select.epoll, requests: list[bytes], a_second: float, n_bytes: int
) -> list[float]:
    free = deque(sockets)
    due_s: dict[int, float] = {}  # of what a connection has been asked
    latencies_ms: list[float] = []
    began_s = time.perf_counter()
    n_sent = 0
    while len(latencies_ms) < len(requests):
        now_s = time.perf_counter() - began_s
        while free and n_sent < len(requests) and n_sent / a_second <= now_s:
            number = free.popleft()
            sockets[number].send(requests[n_sent])
            due_s[number] = n_sent / a_second
            n_sent += 1
        wait_s = max(0.0, n_sent / a_second - now_s) if free and n_sent < len(requests) else PATIENCE_S
        ready = poll.poll(wait_s)
        if not ready and wait_s == PATIENCE_S:
            raise TimeoutError("no answer came")
        now_s = time.perf_counter() - began_s
        for number, _event in ready:
            if len(sockets[number].recv(65_536)) != n_bytes:
                raise ValueError("an answer has another length than the first")
            latencies_ms.append(1_000 * (now_s - due_s.pop(number)))
            free.append(number)
    return latencies_ms
