"""What tests with clients share: a conversation, and clients of other languages in processes of their own."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.programs import program
from tests.websites import NODE_PATH

CLIENTS = Path(__file__).parent

TOKEN = "s3cret"


def wall_ms():
    return time.time_ns() // 1_000_000


def conversation(now_ms):
    """Commands, and what each is answered; an error as far as it matters."""
    theo = ["theo", now_ms - 3_000, "member"]
    anna = ["anna", now_ms - 2_000, "guest"]
    return [
        (["HIT", "theo", "/forum/1", now_ms - 3_000], "OK"),
        (["HIT", "anna", "/forum/1", now_ms - 2_000, "guest"], "OK"),
        (["HIT", "jörg", "/forum/2?a=b c", now_ms - 1_000], "OK"),
        (["HIT", "spider", "/forum/1", "", "bot"], "OK"),
        (["HIT", "eve", "/forum/1", now_ms - 500, "hidden"], "OK"),
        (["COUNT"], 4),
        (["COUNT", "/forum/1"], 3),
        (["COUNT", "", "1800"], 4),
        (["COUNTS", "/forum/1", "/forum/2?a=b c", "/nowhere"], [3, 1, 0]),
        (["KINDS", "/forum/1"], [1, 1, 1, 1]),
        (["PAGE", "/forum/1", "30"], [4, 3, [anna, theo], None]),
        (["PAGE", "/forum/1", "0"], [4, 3, [], None]),
        (["RECENT", "1000"], [[["jörg", "/forum/2?a=b c", now_ms - 1_000, "member"], *on_forum_1(anna, theo)], None]),
        (["USERS", "t"], [on_forum_1(theo), None]),
        (["SEEN", "theo", "eve", "nobody"], [["/forum/1", now_ms - 3_000], None, None]),
        (["SECTION", "/forum/"], [4, 2]),
        (["TOP", "1"], [["/forum/1", 3]]),
        (["ECHO", "a b"], "a b"),
        (["ECHO", ""], ""),
        (["NOSUCHVERB", "x"], {"error": "ERR unknown verb"}),
        (["PAGE", "/forum/1", "1001"], {"error": "RANGE limit takes 0 to 1000, not 1001"}),
        (["HIT", "theo", "/x", "5"], {"error": "RANGE seen_ms"}),
        (["LEAVE", "theo"], "OK"),
        (["COUNT"], 3),
    ]


def good(talk):
    """The part of a conversation that has no errors in it, as of transactions: a wrong verb would spoil them."""
    return [(command, reply) for command, reply in talk if not isinstance(reply, dict)]


def on_forum_1(*viewers):
    return [[user, "/forum/1", seen_ms, kind] for user, seen_ms, kind in viewers]


def check_replies(replies, expected):
    """Compare the replies to a conversation; of errors, how they begin."""
    for reply, wanted in zip(replies, expected, strict=True):
        if isinstance(wanted, dict):
            assert reply["error"].startswith(wanted["error"])
        else:
            assert reply == wanted


def run(*command, stdin=b"", **variables):
    """Run a client; return what it wrote."""
    environment = os.environ | {"REDISCLI_RCFILE": os.devnull} | variables
    result = subprocess.run([*map(str, command)], input=stdin, capture_output=True, timeout=60, env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


class Talker:
    """A client in a process of its own, with one connection."""

    def __init__(self, popen, see):
        self._popen = popen
        self._see = see

    def ask(self, way, commands):
        """Let it send commands singly, pipelined or as a transaction; return the replies."""
        words = [[str(word) for word in command] for command in commands]
        print(json.dumps({"way": way, "commands": words}), file=self._popen.stdin, flush=True)
        line = self._popen.stdout.readline()
        assert line, self._popen.stderr.read()
        return json.loads(line)

    def check(self, way, talk):
        """Hold a conversation, and check what comes back, as this language sees it."""
        commands, replies = zip(*talk, strict=True)
        check_replies(self.ask(way, commands), [self._see(reply, way) for reply in replies])


def as_it_is(reply, way):
    return reply


def ok_is_true(reply, way):
    """Outside of single questions PhpRedis says true for OK."""
    return True if reply == "OK" and way != "single" else reply


def numbers_as_text(reply, way):
    """How Perl sees a reply."""
    if isinstance(reply, list):
        return [numbers_as_text(item, way) for item in reply]
    return str(reply) if isinstance(reply, int) else reply


#: Clients: the program, what tells that the library is there, the script, versions of RESP, how replies look.
TALKERS = {
    "node-redis": ("node", ["-e", 'require("redis")'], "node_redis.js", (2, 3), as_it_is),
    "ioredis": ("node", ["-e", 'require("ioredis")'], "ioredis.js", (2,), as_it_is),
    "phpredis": ("php", ["-r", 'exit(class_exists("Redis") ? 0 : 1);'], "phpredis.php", (2,), ok_is_true),
    "predis": ("php", ["-r", 'require "Predis/Autoloader.php";'], "predis.php", (2,), as_it_is),
    "redis-rb": ("ruby", ["-e", 'require "redis"'], "redis_rb.rb", (2,), as_it_is),
    "redis-pm": ("perl", ["-MRedis", "-e", "1"], "redis_pm.pl", (2,), numbers_as_text),
}


@contextmanager
def talker(name, port, site, version=2):
    """A client of TALKERS, connected to a server; without its library the test is skipped."""
    command, probe, script, _, see = TALKERS[name]
    environment = os.environ | {"NODE_PATH": NODE_PATH}
    path = program(command)
    if subprocess.run([path, *probe], capture_output=True, env=environment).returncode:
        pytest.skip(f"{name} is not installed; .ci/run installs it")
    with subprocess.Popen(
        [path, CLIENTS / script, str(port), site, str(version)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as popen:
        try:
            yield Talker(popen, see)
        except BaseException:
            popen.kill()
            raise
        popen.stdin.close()
        assert (popen.wait(30), popen.stderr.read()) == (0, "")
