"""No search on the hot path: records that searches look at are counted, in a build of the skiplist that counts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("steps")]  # one build for all

ROOT = Path(__file__).parents[2]

#: Counts the steps that each of several kinds of hits takes, on a warm index of 5,000 users on 500 urls.
SCRIPT = """
import json
import random

from online.core.index import Index
from online.core.skiplist import steps
from online.core.wire import apply_hits
import msgpack

draw = random.Random(3)
index = Index()
now_ms = 1_700_000_000_000
users = [b"user-%d" % n for n in range(5_000)]
urls = [b"/page/%d" % n for n in range(500)]
for user in users:
    now_ms += 1
    index.hit(user, draw.choice(urls), now_ms=now_ms)


def counted(hits):
    before = steps()
    for user, url, late_ms in hits:
        index.hit(user, url, seen_ms=now_ms - late_ms, now_ms=now_ms)
    return (steps() - before) / len(hits)


def in_order(n):
    global now_ms
    total = 0
    for _ in range(n):
        now_ms += 1
        total += counted([(draw.choice(users), draw.choice(urls), 0)])
    return total / n


def batched(n):
    global now_ms
    now_ms += n
    hits = [(draw.choice(users), draw.choice(urls), now_ms - n + i) for i in range(n)]
    before = steps()
    apply_hits(index, msgpack.packb([2, "hits", hits]), now_ms=now_ms)
    return (steps() - before) / n


def one_late(late_ms):
    global now_ms
    total = 0
    for n in range(200):
        now_ms += 1
        total += counted([(b"late-%d-%d" % (late_ms, n), urls[0], late_ms)])
    return total / 200


before = steps()
index.page(urls[7], 30, now_ms=now_ms)
index.count(urls[7], now_ms=now_ms)
index.recent(30, now_ms=now_ms)
index.expire(now_ms=now_ms + 900_000)
questions = steps() - before

print(json.dumps({
    "in order": in_order(2_000),
    "in a batch": batched(2_000),
    "questions": questions,
    "new users": counted([(b"new-%d" % n, urls[0], 0) for n in range(200)]),
    "a second late": one_late(1_000),
}))
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    ignore = shutil.ignore_patterns("skiplist*.so", "build", "__pycache__")  # what else is compiled stays
    for name in ("ext", "src", "client"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    setup = (ROOT / "setup.py").read_text()
    assert "for name in CORE + LINUX" in setup
    (folder / "setup.py").write_text(setup.replace("for name in CORE + LINUX", 'for name in ("skiplist",)'))
    environment = os.environ | {"ONLINE_CFLAGS": "-O1 -DONLINE_COUNT_STEPS", "PYTHONPATH": "src:client/src"}
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    made = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)


def test_a_hit_in_time_order_of_a_known_user_and_url_takes_no_search(counts):
    assert counts["in order"] == 0
    assert counts["in a batch"] == 0


def test_lists_counts_and_expiry_take_no_search(counts):
    assert counts["questions"] == 0


def test_a_new_user_takes_one_search_of_log_n(counts):
    assert 5 < counts["new users"] < 250  # a walk would look at 2,500


def test_a_late_hit_takes_a_search_from_the_end(counts):
    assert 2 < counts["a second late"] < 300  # a walk would look at 1,000, in the order by time alone
