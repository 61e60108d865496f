"""`online gateway`: answers for a site whose users are divided among servers.

Not here: how (gateway), and how a server runs (serve).
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from online import errors, partitions
from online.cli import serve
from online.errors import ConfigError
from online.serve import loading
from online.serve.clock import Clock
from online.serve.config import Config
from online.serve.server import Server

_DESCRIPTION = """\
Answer for a site whose users are divided among servers. A gateway asks the servers of all partitions, and merges what
they answer, exactly. It sends hits to the owners of the users. If a partition does not answer, questions are answered
with the error PARTIAL, never with too small a number. It keeps nobody in memory. SIGHUP makes it read the map again.

--map is required. The settings are those of `online serve`, except for state, history, HTTP, syslog and the bus. The
window and the limits of questions and messages need not be given: a gateway goes by those of its servers."""

_EXAMPLES = """\
examples:
  online gateway --map /etc/online/map.toml
  online gateway --map map.toml --listen 127.0.0.1:8990"""


#: Settings that a gateway does not take.
REFUSED = dict.fromkeys(
    (
        *("http", "http_host", "http_origins", "public", "state", "sync", "on_disk_error", "history", "last_seen"),
        *("bus", "bus_ack", "bus_wait", "partition"),
        *("syslog", "syslog_from", "syslog_format", "syslog_rules", "syslog_site"),
    ),
    "is for servers: a gateway only asks others",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online gateway`."""
    parser.usage = "online gateway --map FILE [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    serve.add_check_argument(parser)
    loading.add_arguments(parser, REFUSED)


def run(args: Namespace) -> int:
    """Answer until SIGTERM or SIGINT. Raises OnlineError if it cannot start, or fails."""
    return serve.run_server(args, lambda config: assemble(config.map, config), REFUSED)


def assemble(path: Path | None, config: Config, *, clock: Clock | None = None) -> Server:
    """Return a server that asks others. Raises ConfigError."""
    if path is None:
        raise ConfigError("a gateway needs a map: --map FILE, or ONLINE_MAP, or map in the file")
    try:
        from online.gateway.gateway import Gateway
    except ImportError as error:
        raise errors.more_packages("a gateway", error, "./client[async]") from None
    server = Server(config, clock=clock, keeps_nothing=True)

    def wall_ms() -> int:
        return server.service.wall_of(server.clock.now_ms())

    server.attach(Gateway(partial(partitions.read, path), server.verbs, wall_ms))
    return server
