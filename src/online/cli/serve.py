"""`online serve`: a server with all its parts, in a process of its own. The one place where they are put together.

Not its job: what a server and its parts do.
"""

import logging
import os
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable

import trio

from online.errors import OnlineError
from online.serve import loading
from online.serve.clock import Clock
from online.serve.config import Config
from online.serve.keeper import Keeper
from online.serve.server import Server
from online.serve.syslog import Syslog

#: Descriptors beside those of connections: listeners, files, and whatever libraries hold.
SPARE_FILES = 64

logger = logging.getLogger("online")

_DESCRIPTION = """\
Run a server that knows who is online now, and on which page. Web servers and applications
send it hits; it answers counts and lists of users, to clients of online and to any Redis
client. It keeps everything in memory and, with --state, on disk.

Every setting can be given as an option, as an environment variable (ONLINE_WINDOW for
--window) or as a key of a TOML file (window = 1800). An option goes before a variable, a
variable before the file. Sizes may be written 64KiB or 1MiB, times 90, 90s, 30min or 2h.

The server ends at SIGTERM and SIGINT (Ctrl-C); with --state, neither a restart nor
a crash forgets anybody."""

_EXAMPLES = """\
examples:
  online serve
  online serve --state /var/lib/online/state --listen 127.0.0.1:8989 --listen unix:/run/online.sock
  online serve --listen 0.0.0.0:8989 --token-file /etc/online/token --tls-cert cert.pem --tls-key key.pem

then, from another terminal:
  redis-cli -p 8989 HIT theo /forum/1
  redis-cli -p 8989 PAGE /forum/1 30"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online serve`."""
    parser.usage = "online serve [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    loading.add_arguments(parser)


def run(args: Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises OnlineError when it cannot start or has failed."""
    config = loading.load(vars(args), os.environ)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.WARNING if config.quiet else logging.INFO,
    )
    raise_open_files(config.limits.max_connections)
    trio.run(serve, assemble(config))
    return 0


def assemble(config: Config, *, clock: Clock | None = None) -> Server:
    """Make a server and the parts that `config` asks for. Raises ConfigError.

    The keeper comes first: what it has kept is read before anything comes in, and it closes when nothing can any more.
    """
    server = Server(config, clock=clock)
    shared = server.sites, server.service, server.clock.now_ms
    syslog = Syslog(config, *shared)
    if config.state is not None:
        wake = server.sockets.wake if server.sockets is not None else lambda: None
        show = _show_progress if sys.stderr.isatty() else None
        server.attach(Keeper(config, *shared, server.slices, wake=wake, show=show))
    if config.syslog:
        server.attach(syslog)
    return server


def _show_progress(line: str) -> None:
    """Show progress on the last line of a terminal."""
    print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)


async def serve(server: Server, beside: Callable[[Server], Awaitable[None]] | None = None) -> None:
    """Run `server` until SIGTERM or SIGINT, and `beside` as long. Raises what `Server.run` raises."""
    failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_at_signal, server)
        if beside is not None:
            nursery.start_soon(beside, server)
        try:
            await server.run()
        except OnlineError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_at_signal(
    server: Server, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            server.stop()


def raise_open_files(max_connections: int) -> None:
    """Raise the limit on open files to fit; if the system does not let us, log a warning."""
    wanted = max_connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    for limits in ((wanted, max(hard, wanted)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        logger.warning("%d open files are allowed: too few for max_connections, %d", soft, max_connections)
