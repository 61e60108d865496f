"""An access log through `online feed`: lines a second, on one core.

The log is made beforehand, in combined format, with 70 % guests, 20 % files of pages, 5 % errors, and 500 browsers of
which a ninth are bots. The feed is a process of its own, and so is the server; what counts is the processor time of
the whole feed, from its start to its end, and the time that it takes.
"""

import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 3


def write_log(path: Path, n_lines: int) -> None:
    """Write a log of the last ten minutes: urls and users by Zipf-like laws, about 230 bytes a line."""
    dice = random.Random(7)
    browsers = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0" for n in range(500)]
    browsers[::9] = [f"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html) {n}" for n in range(56)]
    begin_s = time.time() - 600
    with path.open("w") as file:
        for number in range(n_lines):
            date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(begin_s + number * 600 / n_lines))
            address = f"198.{dice.randrange(4)}.{dice.randrange(50)}.{dice.randrange(200)}"
            user = "-" if dice.random() < 0.7 else f"user{int(dice.paretovariate(0.8)) % 30_000}"
            topic = int(dice.paretovariate(1.0)) % 20_000
            query = f"?page={dice.randrange(9)}&s={dice.getrandbits(40):x}" if dice.random() < 0.3 else ""
            url = f"/forum/topic/{topic}{query}" if dice.random() < 0.8 else f"/static/app-{topic % 50}.js"
            status = 200 if dice.random() < 0.95 else 404
            agent = browsers[int(dice.paretovariate(1.0)) % 500]
            file.write(
                f'{address} - {user} [{date}] "GET {url} HTTP/1.1" {status} {dice.randrange(100_000)}'
                f' "https://example.org/forum/" "{agent}"\n'
            )


def test_feed(tmp_path: Path, record: Callable[..., None], quick: bool) -> None:
    n_lines = 100_000 if quick else 1_000_000
    log = tmp_path / "access.log"
    write_log(log, n_lines)
    rates, rates_of_cpu = [], []
    for _ in range(ROUNDS):
        took_s, cpu_s = _feed(log, n_lines)
        rates.append(n_lines / took_s)
        rates_of_cpu.append(n_lines / cpu_s)
    note = f"{n_lines:,} lines of {log.stat().st_size // n_lines} bytes, seed 7; start and end of the process included"
    record("combined log through online feed", rates, "lines/s", at_least=None if quick else 150_000, note=note)
    record("the same by processor time", rates_of_cpu, "lines/s", note=note)


def _feed(log: Path, n_lines: int) -> tuple[float, float]:
    """Feed the log to a new server; return the time it takes, and the processor time."""
    online = [sys.executable, "-m", "online"]
    serve = subprocess.Popen([*online, "serve", "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    assert serve.stderr is not None
    try:
        told = next(line for line in serve.stderr if " listens on " in line)
        listening = re.search(r"127\.0\.0\.1:\d+", told)
        assert listening is not None
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()
        url = f"online://{listening[0]}"
        feed = subprocess.run(
            [*online, "feed", str(log), "--from-start", "--once", "--url", url], stderr=subprocess.PIPE, text=True
        )
        took_s = time.perf_counter() - began_s
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert feed.returncode == 0
        assert f"{n_lines:,} lines" in feed.stderr
        assert " 0 not understood" in feed.stderr
        return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    finally:
        serve.terminate()
        serve.wait()
        serve.stderr.close()
