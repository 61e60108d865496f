"""`online relay`: takes hits as a server does, and publishes them on the bus.

Not here: how (bus/relay), and how a server runs (serve).
"""

from argparse import ArgumentParser, Namespace

from online.cli import serve
from online.errors import ConfigError
from online.http.service import Http
from online.serve import loading
from online.serve.clock import Clock
from online.serve.config import Config
from online.serve.server import Server
from online.serve.syslog import Syslog

_DESCRIPTION = """\
Take hits as a server does, in every dialect and over syslog, and publish them on the bus that servers share. A relay
keeps nobody in memory and writes nothing: it answers questions with an error, and hits at once. While the bus is away,
hits wait, up to 64 MiB. What finds no room is dropped and counted in INFO bus.

With --map, each hit goes to the stream of its user's partition. SIGHUP makes the relay read the map again. Without
--map, all hits go to the stream of --partition.

--bus is required. The settings are those of `online serve`, except for state, history, --bus-ack and --bus-wait."""

_EXAMPLES = """\
examples:
  online relay --bus redis://10.0.0.9:6379/0
  online relay --bus redis://10.0.0.9:6379/0 --syslog 127.0.0.1:5514 --http ''
  online relay --bus redis://10.0.0.9:6379/0 --map /etc/online/map.toml"""


#: Settings that a relay does not take.
REFUSED = {
    **dict.fromkeys(
        ("state", "sync", "on_disk_error", "history", "last_seen"), "is for servers: a relay keeps nothing"
    ),
    "bus_wait": "is for servers: a relay takes hits at once",
    "bus_ack": "is for servers: a relay answers before the bus has a hit",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online relay`."""
    parser.usage = "online relay --bus URL [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    serve.add_check_argument(parser)
    loading.add_arguments(parser, REFUSED)


def run(args: Namespace) -> int:
    """Relay until SIGTERM or SIGINT. Raises OnlineError if it cannot start, or fails."""
    return serve.run_server(args, assemble, REFUSED)


def assemble(config: Config, *, clock: Clock | None = None) -> Server:
    """Return a server that only publishes. Raises ConfigError."""
    if config.bus is None:
        raise ConfigError("a relay needs a bus: --bus redis://HOST:PORT")
    from online.bus.relay import Relay

    server = Server(config, clock=clock, keeps_nothing=True)
    server.attach(Relay(config, server.sites, server.service))
    if config.syslog:
        server.attach(Syslog(config, server.sites, server.service, server.clock.now_ms))
    if config.http != ():
        take_over = server.sockets.take_over if server.sockets is not None else None
        server.attach(Http(config, server.verbs, server.clock.now_ms, tls_context=server.tls, take_over=take_over))
    return server
