"""Requests as access logs tell of them, made up from a seed: urls, users and browsers by Zipf-like laws.

70 % guests, 20 % files of pages, 5 % errors, and 500 browsers of which a ninth are bots. Not here: sending them.
"""

import json
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

SEED = 7
SPAN_S = 600


class Request(NamedTuple):
    at_s: float
    address: str
    user: str  # empty: a guest
    url: str
    status: int
    agent: str
    n_bytes: int


def requests(n: int) -> Iterator[Request]:
    """Make so many requests, of the last ten minutes."""
    dice = random.Random(SEED)
    browsers = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0" for n in range(500)]
    browsers[::9] = [f"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html) {n}" for n in range(56)]
    begin_s = time.time() - SPAN_S
    for number in range(n):
        address = f"198.{dice.randrange(4)}.{dice.randrange(50)}.{dice.randrange(200)}"
        user = "" if dice.random() < 0.7 else f"user{int(dice.paretovariate(0.8)) % 30_000}"
        topic = int(dice.paretovariate(1.0)) % 20_000
        query = f"?page={dice.randrange(9)}&s={dice.getrandbits(40):x}" if dice.random() < 0.3 else ""
        url = f"/forum/topic/{topic}{query}" if dice.random() < 0.8 else f"/static/app-{topic % 50}.js"
        status = 200 if dice.random() < 0.95 else 404
        agent = browsers[int(dice.paretovariate(1.0)) % 500]
        yield Request(begin_s + number * SPAN_S / n, address, user, url, status, agent, dice.randrange(100_000))


def combined(request: Request) -> str:
    """Write a request as nginx and Apache do by default."""
    date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(request.at_s))
    return (
        f'{request.address} - {request.user or "-"} [{date}] "GET {request.url} HTTP/1.1" {request.status}'
        f' {request.n_bytes} "https://example.org/forum/" "{request.agent}"'
    )


def nginx_json(request: Request) -> str:
    """Write a request as docs/nginx.md has it, with the user."""
    url, agent = json.dumps(request.url), json.dumps(request.agent)
    return (
        f'{{"time":{request.at_s:.3f},"user":"{request.user}","url":{url},"status":"{request.status}",'
        f'"method":"GET","address":"{request.address}","forwarded":"","agent":{agent},"host":"www.example.org"}}'
    )


def caddy_json(request: Request) -> str:
    """Write a request as Caddy does by default."""
    headers = {"User-Agent": [request.agent], "Accept-Encoding": ["gzip, br"], "Sec-Ch-Ua": ['"Chromium";v="130"']}
    asked = {
        "remote_ip": request.address, "remote_port": "51000", "client_ip": request.address, "proto": "HTTP/2.0",
        "method": "GET", "host": "www.example.org", "uri": request.url, "headers": headers,
        "tls": {"resumed": False, "version": 772, "cipher_suite": 4865, "proto": "h2"},
    }  # fmt: skip
    told = {
        "level": "info", "ts": round(request.at_s, 6), "logger": "http.log.access.log0", "msg": "handled request",
        "request": asked, "bytes_read": 0, "user_id": request.user, "duration": 0.0012, "size": request.n_bytes,
        "status": request.status, "resp_headers": {"Server": ["Caddy"], "Content-Type": ["text/html; charset=utf-8"]},
    }  # fmt: skip
    return json.dumps(told, separators=(",", ":"))
