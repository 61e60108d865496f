"""Programs that exchange, forbid or forget threads: gevent, eventlet, uWSGI, subinterpreters, the end of a program."""

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.serving import PATIENCE_S, until
from tests.websites import site_environment, website

APP = """
from online_client.wsgi import OnlineMiddleware

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"hello"]

app = OnlineMiddleware(hello, secret="s3cret", guest=lambda environ: environ["QUERY_STRING"])
"""
VISITS = 60


def needs(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it stands in the extra dev of pyproject.toml")


@pytest.fixture
def site(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def visit(at, visits=VISITS, who=""):
    """Visit a site, ten at a time, as so many visitors. Every visit is answered."""

    def one(visitor):
        request = urllib.request.Request(f"{at}/page?{who}{visitor}", headers={"User-Agent": BROWSER})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.status

    with ThreadPoolExecutor(10) as visitors:
        assert list(visitors.map(one, range(visits))) == [200] * visits


def run(program, url, *arguments):
    """Run a program of Python to its end. Returns what it wrote, both ways."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=site_environment(ONLINE_URL=url),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn_with_gevent(client, url, site, preload):
    needs("gevent")
    log = []
    options = ["-k", "gevent", "-w", "1", "--bind", "127.0.0.1:0", *preload]
    command = [sys.executable, "-m", "gunicorn", "app:app", *options]
    with website(*command, cwd=site, ready=r"Listening at: (\S+)", log=log, ONLINE_URL=url) as at:
        visit(at[1])
    assert client.count("/page") == VISITS
    assert "Traceback" not in "".join(log)


def are_idle(stats):
    """Whether all workers of a uWSGI have nothing to do."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(stats))
        told = json.loads(b"".join(iter(lambda: asking.recv(65_536), b"")))
    return {worker["status"] for worker in told["workers"]} == {"idle"}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1, 4])
def test_uwsgi(client, url, site, threads):
    needs("pyuwsgi")
    log = []
    options = ["--enable-threads", "--threads", str(threads)] if threads else []
    options += ["--http-socket", "127.0.0.1:0", "--master", "--processes", "2", "--die-on-term", "--need-app"]
    options += ["--stats", str(site / "stats")]
    command = [
        sys.executable,
        "-c",
        "import pyuwsgi; pyuwsgi.run()",
        *options,
        "--wsgi-file",
        "app.py",
        "--callable",
        "app",
    ]
    ready = r"bound to TCP address (127.0.0.1:\d+)"
    with website(*command, cwd=site, ready=ready, log=log, ONLINE_URL=url) as at:
        visit(f"http://{at[1]}")
        deadline_s = time.monotonic() + PATIENCE_S
        while client.count("/page") < VISITS:  # without threads, hits go while other requests are answered
            assert time.monotonic() < deadline_s, log
            if not threads:
                visit(f"http://{at[1]}")
        visit(f"http://{at[1]}", who="late-")
        until(lambda: are_idle(site / "stats"))  # a worker that ends while it is busy runs no hooks of Python
    deadline_s = time.monotonic() + PATIENCE_S
    while client.count("/page") < 2 * VISITS:  # the last hits go when the workers end
        assert time.monotonic() < deadline_s, log
    assert client.count("/page") == 2 * VISITS
    told = "".join(log)
    assert "Traceback" not in told
    assert ("set enable-threads = true" in told) == (threads == 0)


PATCHED_LATE = """
import sys, threading
from online_client import Reporter
reporter = Reporter()
if sys.argv[1] == "gevent":
    from gevent import monkey, spawn, joinall
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()
    spawn, joinall = eventlet.spawn, lambda all: [each.wait() for each in all]
joinall([spawn(lambda n=n: [reporter.hit(f"{n}-{m}", "/page") for m in range(10)]) for n in range(10)])
print("hits are in")
if sys.argv[2] == "flush":
    print("flushed", reporter.flush(10))
"""


#: gevent looks a host up in a thread, and these start none once a program ends (python/cpython#113964).
NO_THREADS_AT_EXIT = pytest.mark.xfail(
    (3, 12) <= sys.version_info < (3, 12, 2), strict=True, reason="Python 3.12.0 and 3.12.1 start no thread at exit"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "then"),
    [
        ("gevent", "flush"),
        pytest.param("gevent", "exit", marks=NO_THREADS_AT_EXIT),
        ("eventlet", "flush"),
        ("eventlet", "exit"),
    ],
)
def test_threads_exchanged_after_the_reporter_was_made(client, url, library, then):
    needs(library)
    told = run("import warnings; warnings.simplefilter('ignore')\n" + PATCHED_LATE, url, library, then)
    assert client.count("/page") == 100
    assert told.splitlines() == ["hits are in"] + ["flushed True"] * (then == "flush")


FORKED_UNKNOWN_TO_PYTHON = """
import ctypes, os
from online_client import Client, Reporter
reporter, client = Reporter(), Client()
reporter.hit("parent", "/page")
assert reporter.flush(10)
client.count()
child = ctypes.PyDLL(None).fork()
reporter.hit("child" if child == 0 else "parent", "/page")
assert reporter.flush(10)
assert client.count("/page") >= 1
if child == 0:
    os._exit(reporter.statistics().sent - 1)
assert os.waitpid(child, 0)[1] == 0
print(reporter.statistics().sent)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="calls the C library's fork as Linux has it")
def test_a_fork_that_python_does_not_know_of(client, url):
    assert run(FORKED_UNKNOWN_TO_PYTHON, url).split() == ["2"]
    assert [seen.url for seen in client.seen("child", "parent")] == ["/page"] * 2


THREADS_AFTER_SUCH_A_FORK = """
import ctypes, os, sys, threading
from online_client import Client, Reporter
reporters = [Reporter() for _ in range(30)]
sys.setswitchinterval(1e-6)
fork = ctypes.PyDLL(None).fork
for child in range(10):
    if fork() == 0:
        together = threading.Barrier(4)

        def work(thread):
            together.wait()
            for reporter in reporters:
                reporter.hit(f"{child}-{thread}", "/page")

        threads = [threading.Thread(target=work, args=[each]) for each in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
        took = [reporter.statistics() for reporter in reporters]
        os._exit(sum(each.waiting + each.sent + each.dropped for each in took) != 4 * len(reporters))
print([os.wait()[1] for child in range(10)])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="calls the C library's fork as Linux has it")
def test_threads_that_begin_together_after_such_a_fork(url):
    """As in workers of uWSGI, whose first requests come at once."""
    assert run(THREADS_AFTER_SUCH_A_FORK, url).strip() == str([0] * 10)


AT_THE_END = """
import atexit, threading, time
from online_client import Reporter
late = Reporter()
reporter = Reporter()

def work():
    threading.main_thread().join()
    for n in range(10):
        reporter.hit(f"thread-{n}", "/page")

class Last:
    def __del__(self, hit=late.hit):
        hit("finalizer", "/page")

last = Last()
threading.Thread(target=work).start()
reporter.hit("main", "/page")
atexit.register(reporter.hit, "atexit", "/page")
"""


@pytest.mark.slow
def test_hits_at_the_end_of_a_program(client, url):
    told = run(AT_THE_END, url)
    assert "Traceback" not in told
    assert "Exception" not in told
    assert client.count("/page") == 12


IN_A_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
ID = interpreters.create()
error = interpreters.run_string(ID, '''
import logging
logging.basicConfig()
from online_client import Reporter
reporter = Reporter()
for n in range(10):
    reporter.hit(n, "/page")
statistics = reporter.statistics()
print("all counted", statistics.waiting + statistics.sent + statistics.dropped == 10)
reporter.flush(10)
print("sent or said why", reporter.statistics().sent == 10 or bool(reporter.statistics().last_error))
''')
assert error is None, error
interpreters.destroy(ID)
print("over")
"""


@pytest.mark.slow
def test_a_subinterpreter(url):
    told = run(IN_A_SUBINTERPRETER, url).splitlines()
    assert [line for line in told if not line.startswith("WARNING:")] == [
        "all counted True",
        "sent or said why True",
        "over",
    ]
    assert len(told) <= 4  # one warning at most
