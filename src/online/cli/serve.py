"""`online serve`: runs a server with all its parts. Only here are they put together.

Not here: what a server and its parts do.
"""

import logging
import os
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from online.cli.signals import IGNORED
from online.cli.words import many
from online.errors import ConfigError, OnlineError
from online.http.service import Http
from online.keep.folder import Folder
from online.serve import collector, loading
from online.serve.clock import Clock
from online.serve.config import Config
from online.serve.keeper import Keeper
from online.serve.listeners import open_datagrams, open_listeners
from online.serve.past import PastKeeper
from online.serve.server import Server
from online.serve.syslog import Syslog
from online.serve.systemd import Systemd

if TYPE_CHECKING:
    from online.bus.division import Division
    from online.bus.replica import Replica

#: Signals that stop the server.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

#: Descriptors for everything but connections: listeners, files, and libraries.
SPARE_FILES = 64

#: How long a thread that writes may keep the interpreter from the one that serves. Python's own is 5 ms.
SWITCH_S = 0.0005

logger = logging.getLogger("online")

_DESCRIPTION = """\
Run a server that knows who is online now, and on which page. Web servers and applications send it hits. It answers
with counts and lists of users, to online's own clients and to any Redis client. It keeps everything in memory and,
with --state, on disk.

Every setting can be given as an option, as an environment variable (ONLINE_WINDOW for --window) or as a key in a TOML
file (window = 1800). Options override variables; variables override the file. Write sizes as 64KiB or 1MiB, and times
as 90, 90s, 30min or 2h.

SIGTERM, SIGINT (Ctrl-C) and SIGQUIT stop the server. SIGHUP makes it read the files of the token, of the
certificate and of the map again. With --state, a restart or a crash loses nobody."""

_EXAMPLES = """\
examples:
  online serve
  online serve --config /etc/online/online.toml --check
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
    add_check_argument(parser, "the settings, the addresses and the state directory")
    loading.add_arguments(parser)


def add_check_argument(parser: ArgumentParser, checked: str = "the settings and the addresses") -> None:
    """Add `--check`, which `run_server` obeys."""
    what = f"check {checked}, then exit: 0 if good, 2 with the reason"
    parser.add_argument("--check", action="store_true", help=what)


def run(args: Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises OnlineError if it cannot start, or fails."""
    return run_server(args, assemble)


def run_server(
    args: Namespace, make: Callable[[Config], Server], without: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Run the server that `make` makes of what the command line, variables and file say. Raises OnlineError.

    `without`: settings that such a server does not take, each with the reason.
    """
    read = partial(loading.load, vars(args), os.environ, without)
    warn_of_variables(args, os.environ)
    config = read()
    warn_of(args, config)
    if args.check:
        trio.run(check, make(config))
        return 0
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.WARNING if config.quiet else logging.INFO,
    )
    raise_open_files(config.limits.max_connections)
    server = make(config)
    if "NOTIFY_SOCKET" in os.environ:
        server.attach(Systemd(os.environ, lambda: status(server)))
    collector.calm(server.verbs.delays)
    sys.setswitchinterval(SWITCH_S)
    trio.run(serve, server, None, read)
    return 0


def warn_of_variables(args: Namespace, environ: Mapping[str, str]) -> None:
    """Say which variables look like settings and are none."""
    for warning in loading.unknown_variables(environ):
        print(f"online {args.command}: {warning}", file=sys.stderr)


def warn_of(args: Namespace, config: Config) -> None:
    """Say what is probably not meant."""
    for warning in config.warnings():
        print(f"online {args.command}: {warning}", file=sys.stderr)


async def check(server: Server) -> None:
    """Open the sockets of a server that does not run, and close them again. Raises ConfigError or StateError."""
    config, at = server.config, (*server.config.listen, *(server.config.http or ()))
    if config.state is not None:
        Folder(config.state).check()
    async with (
        open_listeners(at, unix_mode=config.unix_mode),
        open_datagrams(config.syslog, unix_mode=config.unix_mode, purpose="receive syslog at"),
    ):
        told = ", ".join(map(str, (*at, *config.syslog)))
        print(f"The settings are good, and a server can listen on {told}.")


def status(server: Server) -> str:
    """Say in a line what a server does, for `systemctl status`."""
    if server.service.loading is not None:
        return server.service.loading
    if server.service.unanswered is not None:
        return f"relay, {many(server.connections.n_counted, 'connection')}"
    people = sum(index.count(now_ms=server.clock.now_ms()) for index in server.sites.values())
    return f"{people:,} online, {many(server.connections.n_counted, 'connection')}"


def assemble(config: Config, *, clock: Clock | None = None) -> Server:
    """Return a server with the parts that `config` asks for. Raises ConfigError.

    The keeper comes first: it reads what it has kept before any hits come in, and closes after the last.
    """
    server = Server(config, clock=clock)
    shared = server.sites, server.service, server.clock.now_ms
    syslog = Syslog(config, *shared)
    wake = server.sockets.wake if server.sockets is not None else lambda: None
    keeper = None
    if config.state is not None:
        show = _show_progress if sys.stderr.isatty() else None
        keeper = Keeper(config, *shared, server.slices, wake=wake, show=show)
        server.attach(keeper)
    past = server.verbs.past = PastKeeper(config, *shared, server.slices, purging=keeper)
    server.attach(past)
    if config.bus is not None:
        from online.bus.replica import Replica

        replica = Replica(config, *shared, server.slices, keeper=keeper, past=past, wake=wake)
        if config.map is not None:
            server.attach(_division(config.map, config.partition, server, replica))
        server.attach(replica)
        server.verbs.unready = replica.unready
    elif config.map is not None:
        raise ConfigError("map needs a bus, too: users who come from another partition are read from it")
    if config.syslog:
        server.attach(syslog)
    if config.http != ():
        take_over = server.sockets.take_over if server.sockets is not None else None
        server.attach(Http(config, server.verbs, server.clock.now_ms, tls_context=server.tls, take_over=take_over))
    return server


def _division(path: Path, number: int, server: Server, replica: "Replica") -> "Division":
    """Let a server know the users of its partition alone. Raises ConfigError."""
    from online.bus.division import Division

    return Division(path, number, server.sites, server.service, server.connections, server.clock.now_ms, replica)


def _show_progress(line: str) -> None:
    """Show progress on the last line of a terminal."""
    print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)


async def serve(
    server: Server,
    beside: Callable[[Server], Awaitable[None]] | None = None,
    read: Callable[[], Config] | None = None,
) -> None:
    """Run `server` until a signal stops it, with `beside` at the same time. Raises what `Server.run` raises.

    `read` reads the configuration again at SIGHUP. Without it, SIGHUP stops the server.
    """
    failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, server, read)
        if beside is not None:
            nursery.start_soon(beside, server)
        try:
            await server.run()
        except OnlineError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _obey_signals(
    server: Server,
    read: Callable[[], Config] | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    obeyed = (*STOPPING, signal.SIGHUP)
    for number in (*obeyed, *IGNORED):
        # What is obeyed is ignored again in the end: a second SIGTERM does not change how the process ends.
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*obeyed) as signals:
        task_status.started()
        async for sent in signals:
            if sent == signal.SIGHUP and read is not None:
                _reload(server, read)
            else:
                server.stop()


def _reload(server: Server, read: Callable[[], Config]) -> None:
    """Take over tokens, the certificate and what parts read; if that cannot be done, go on with the old ones."""
    told = [part for part in server.parts if isinstance(part, Systemd)]
    for part in told:
        part.reloading()
    try:
        server.reload(read())
    except (OnlineError, OSError) as error:  # OSError: a file went after it was looked at
        logger.warning("SIGHUP: nothing was changed: %s", error)
    else:
        logger.info("SIGHUP: the files of tokens, of the certificate and of parts were read again")
    for part in told:
        part.reloaded()


def raise_open_files(max_connections: int) -> None:
    """Raise the limit on open files for `max_connections`. Logs a warning if the system does not allow it."""
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
        logger.warning("the limit on open files is %d, too low for max_connections = %d", soft, max_connections)
