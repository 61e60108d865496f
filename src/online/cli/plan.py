"""`online plan`: from users, hits and questions to memory, disk, processor time and machines.

Not here: what was measured (measured). A plan is an upper estimate: each figure is of the worst moment.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from textwrap import wrap
from typing import NamedTuple

from online.cli import measured
from online.cli.arguments import whole, whole_time
from online.cli.words import many
from online.limits import Limits
from online.partitions import MAX_PARTITIONS
from online.terms import span

#: Of a core, above which a server's answers begin to wait for each other.
BUSY = 0.6

#: How much more memory a machine should have: for buffers, the page cache, and the system.
MACHINE_FACTOR, MACHINE_BYTES = 1.5, 512 * 2**20

#: Memory of a machine beyond which a site is divided, where nothing else is asked for.
LARGEST_MACHINE_BYTES = 64 * 2**30

#: Of BUSY, what hits may take where questions need some, too.
HITS_SHARE = 0.5

#: What a visitor opens within the window, where --hits is not given.
PAGES_A_VISITOR = 6

MOST, MOST_REPLICAS = 1_000_000_000, 100

_DESCRIPTION = """\
Say what a site needs: memory, disk, processor time, a bus and machines. The figures are those that this project has
measured on the machine that docs/performance.md describes; each is of the worst moment. Measure your own with
`online bench`.

Without --replicas and --partitions it says how many of each are needed."""

_EPILOG = """\
examples:
  online plan --users 10000
  online plan --users 300000 --hits 5000 --questions 5000 --replicas 2 --bus redis+sentinel
  online plan --users 50000 --window 24h --sites 200 --last-seen-members 1000000"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is to be served. All sites together."""

    users: int  #: online at once
    hits: int  #: a second
    questions: int  #: a second
    pages: int  #: with somebody on them
    sites: int = 1
    window_s: int = 1_800
    partitions: int = 1  #: each with a part of the users
    replicas: int = 1  #: of each partition
    connections: int = 100
    watchers: int = 0  #: browsers that wait for events
    name_bytes: int = 22  #: as the name of a guest
    url_bytes: int = 30
    history_days: int = 400
    last_seen_members: int = 0
    bus: str = "redis"  #: one of BUSES


class Bus(NamedTuple):
    """What keeps the hits that replicas share."""

    windows: float  #: that it keeps at most
    what: str  #: is told of the size
    machines: str  #: beside the servers


#: By the schemes of --bus, without TLS.
BUSES = {
    "redis": Bus(measured.BUS_WINDOWS, "memory of Redis or Valkey: twice the window", "one for the bus"),
    "redis+sentinel": Bus(
        measured.BUS_WINDOWS,
        "memory of each Redis or Valkey, the master and its replica: twice the window",
        "two for a master and its replica, with a Sentinel each; the third Sentinel runs beside a server",
    ),
    "redis+cluster": Bus(
        measured.BUS_WINDOWS,
        "memory of the node that has the stream, and of its replica: twice the window. Each --partition has a stream "
        "of its own, which may be on another node",
        "the cluster",
    ),
    "kafka": Bus(
        measured.KAFKA_WINDOWS,
        "disk of each of three brokers, at most: twice the window, and the segment that is let go next",
        "three brokers",
    ),
}


class Plan(NamedTuple):
    """What that takes, of each server where nothing else is said. Sizes are in bytes."""

    memory: int  #: of the process
    sessions: int  #: of that, users and pages
    machine: int  #: recommended memory of the machine
    disk: int  #: of the state directory
    written_per_s: int  #: to the disk
    bus: int  #: memory of Redis or Valkey, disk of Kafka, of each node that keeps all; 0 where there is one server
    core: float  #: share of a core if each hit comes alone
    core_batched: float  #: and if hits come in batches
    servers: int
    gateways: int  #: 0 where users are not divided


def plan(site: Site) -> Plan:
    """Return what `site` takes."""
    all_hits, part = site.hits, _part(site)
    found = _server(part)
    gateways = 0
    if site.partitions > 1:
        busy_s = site.questions * measured.GATEWAY_QUESTION_S + all_hits * measured.GATEWAY_HIT_S
        gateways = max(ceil(busy_s / BUSY), min(site.replicas, 2))
    bus = _bus(part if site.bus == "redis+cluster" else site) if _has_bus(site) else 0
    return found._replace(bus=bus, servers=site.partitions * site.replicas, gateways=gateways)


def _has_bus(site: Site) -> bool:
    return site.replicas > 1 or site.partitions > 1


def _part(site: Site) -> Site:
    """Return a partition. Its servers are asked all questions, and may have somebody on each page."""
    n = site.partitions
    users = ceil(site.users / n)
    return replace(
        site,
        users=users,
        hits=ceil(site.hits / n),
        pages=min(site.pages, users) if n > 1 else site.pages,
        last_seen_members=ceil(site.last_seen_members / n),
    )


def fitted(site: Site, *, partitions: int | None, replicas: int | None) -> Site:
    """Return `site` with as many partitions and replicas as it needs, where none are given.

    Partitions divide users and hits, and replicas divide questions: each server of a partition applies all of its hits.
    Where even MOST_REPLICAS are too few, more partitions leave more of each server to questions.
    """
    if partitions is None:
        alone_s, most_s = site.hits * measured.BATCHED_HIT_S, HITS_SHARE * BUSY
        partitions = 1 if alone_s <= most_s else ceil(alone_s * measured.BUS_FACTOR / most_s)
        site = replace(site, partitions=partitions)
        while plan(site).machine > LARGEST_MACHINE_BYTES and site.partitions < MAX_PARTITIONS:
            site = replace(site, partitions=site.partitions + 1)
        if replicas is None:
            for more in range(site.partitions, MAX_PARTITIONS + 1):
                if plan(replace(site, partitions=more, replicas=MOST_REPLICAS)).core_batched <= BUSY:
                    site = replace(site, partitions=more)
                    break
    else:
        site = replace(site, partitions=partitions)
    if replicas is None:
        replicas = 1
        while plan(site := replace(site, replicas=replicas)).core_batched > BUSY and replicas < MOST_REPLICAS:
            replicas += 1
        return site
    return replace(site, replicas=replicas)


def _server(site: Site) -> Plan:
    """Return what a server of a partition takes."""
    sessions = site.sites * measured.SITE_BYTES
    sessions += site.users * (measured.USER_BYTES + max(site.name_bytes, measured.NAME_BYTES))
    sessions += site.pages * (measured.PAGE_BYTES + site.url_bytes)
    memory = measured.PROCESS_BYTES + sessions
    memory += site.connections * measured.CONNECTION_BYTES + site.watchers * measured.EVENTS_BYTES
    hit_bytes = site.name_bytes + site.url_bytes + measured.JOURNALED_HIT_BYTES
    own_hits = site.hits / site.replicas
    questions_s = site.questions / site.replicas * measured.LONE_QUESTION_S
    batched_s, shared_s = site.hits * measured.BATCHED_HIT_S, 0.0
    if _has_bus(site):  # each server applies everybody's hits
        batched_s *= measured.BUS_FACTOR
        shared_s = batched_s
    return Plan(
        memory=memory,
        sessions=sessions,
        machine=round(MACHINE_FACTOR * memory) + MACHINE_BYTES,
        disk=round(_disk(site, hit_bytes)),
        written_per_s=site.hits * (hit_bytes + measured.LONE_HIT_BYTES),
        bus=0,
        core=questions_s + own_hits * measured.LONE_QUESTION_S + shared_s,
        core_batched=questions_s + batched_s,
        servers=1,
        gateways=0,
    )


def _disk(site: Site, hit_bytes: int) -> float:
    """Return the most that the state directory takes, by the formula of docs/persistence.md."""
    snapshot = site.users * hit_bytes
    while_written_s = site.users * measured.SNAPSHOT_S + 2
    kept: float = 3 * snapshot + 2 * max(measured.JOURNAL_BYTES, snapshot)
    kept += (hit_bytes + measured.LONE_HIT_BYTES) * site.hits * while_written_s
    history = site.sites * measured.HISTORY_BYTES * site.history_days / measured.HISTORY_DAYS
    row = measured.LAST_SEEN_BYTES + site.name_bytes + site.url_bytes
    return kept + history + site.last_seen_members * row


def _bus(site: Site) -> int:
    hit_bytes = max(measured.BUS_HIT_BYTES, site.name_bytes + site.url_bytes)
    return round(BUSES[site.bus].windows * site.window_s * site.hits * hit_bytes)


# The command


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online plan`."""
    parser.usage = "online plan --users N [OPTION ...]"
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    number, add = whole(0, MOST), parser.add_argument
    add("--users", metavar="N", type=whole(1, MOST), required=True, help="visitors who are online at once, bots too")
    add("--hits", metavar="N", type=number, help=f"page views a second (default: {PAGES_A_VISITOR} a user and window)")
    add("--questions", metavar="N", type=number, help="questions a second (default: one for each page view)")
    add("--pages", metavar="N", type=number, help="pages with somebody on them (default: one for five users)")
    add("--sites", metavar="N", type=whole(1, MOST), default=1, help="how many sites share these users (default: 1)")
    add(
        "--window",
        metavar="TIME",
        type=whole_time(60, 86_400),
        default=1_800,
        help="how long a visitor counts as online, 1min to 24h (default: 30min)",
    )
    add("--replicas", metavar="N", type=whole(1, MOST_REPLICAS), help="servers of each partition, which share its hits")
    add("--partitions", metavar="N", type=whole(1, MAX_PARTITIONS), help="parts that the users are divided into")
    add("--bus", choices=list(BUSES), help="what servers share hits over (default: redis)")
    add("--connections", metavar="N", type=number, default=100, help="open connections (default: 100)")
    add("--watchers", metavar="N", type=number, default=0, help="browsers that wait for events (default: 0)")
    add("--name-bytes", metavar="N", type=whole(1, 256), default=22, help="length of a user's name (default: 22)")
    add("--url-bytes", metavar="N", type=whole(1, 2048), default=30, help="length of a url (default: 30)")
    add("--history", metavar="DAYS", type=whole(0, 36_500), default=400, help="as for the server (default: 400)")
    add("--last-seen-members", metavar="N", type=number, default=0, help="members that --last-seen keeps (default: 0)")
    add("--json", action="store_true", help="print the plan as JSON; sizes in bytes")


def run(args: Namespace) -> int:
    """Print the plan. Returns 0."""
    site = site_of(args)
    found = plan(site)
    if args.json:
        print(json.dumps({"site": asdict(site), "plan": found._asdict()}, indent=2))
        return 0
    notes = [*warnings(site, found)]
    if args.bus and not found.bus:
        notes.append(f"one server needs no bus: --bus {args.bus} is for --replicas 2 or --partitions 2 or more")
    for name, value, note in (*rows(site, found), *(("note", "", note) for note in notes)):
        lines = wrap(note, 60) or [""]
        print(f"{name:<14}{value:>12}  {lines[0]}".rstrip())
        for line in lines[1:]:
            print(f"{'':<28}{line}")
    return 0


def site_of(args: Namespace) -> Site:
    """Return what was asked for, with what follows from it where nothing was said."""
    hits = args.hits if args.hits is not None else -(-args.users * PAGES_A_VISITOR // args.window)
    site = Site(
        users=args.users,
        hits=hits,
        questions=args.questions if args.questions is not None else hits,
        pages=args.pages if args.pages is not None else -(-args.users // 5),
        sites=args.sites,
        window_s=args.window,
        connections=args.connections,
        watchers=args.watchers,
        name_bytes=args.name_bytes,
        url_bytes=args.url_bytes,
        history_days=args.history,
        last_seen_members=args.last_seen_members,
        bus=args.bus or "redis",
    )
    return fitted(site, partitions=args.partitions, replicas=args.replicas)


def rows(site: Site, found: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield rows of name, value and note."""
    sites = "" if site.sites == 1 else f" on {site.sites:,} sites"
    asked = f"{many(site.hits, 'hit')} and {many(site.questions, 'question')} a second, window {span(site.window_s)}"
    yield "for", f"{site.users:,}", f"users online at once{sites}; {asked}"
    yield "memory", size(found.memory), f"of a server's process; users and pages are {size(found.sessions)} of it"
    yield "machine", size(found.machine), "recommended memory of the machine"
    yield "disk", size(found.disk), "at most, with --state; the journal, two snapshots, history"
    yield "written", f"{size(found.written_per_s)}/s", "to the journal"
    yield "processor", _core(found.core), "of one core, if hits come one at a time (see docs/performance.md)"
    yield "", _core(found.core_batched), "if they come in batches, as Reporter and online feed send them"
    if found.servers == 1:
        yield "machines", "1", "--replicas 2 for one that may fail; then all share their hits over a bus"
    else:
        bus = BUSES[site.bus]
        divided = "" if site.partitions == 1 else f" in {site.partitions:,} partitions of {site.replicas:,}"
        yield "machines", f"{found.servers:,}", f"servers{divided}, each with all of this; and {bus.machines}"
        if found.gateways:
            yield "gateways", f"{found.gateways:,}", "processes of one core, which ask all partitions: docs/gateway.md"
        yield "bus", size(found.bus), bus.what


def warnings(site: Site, found: Plan) -> Iterator[str]:
    """Yield what does not fit."""
    enough = fitted(site, partitions=None, replicas=None)
    ways = [
        f"--{name} {getattr(enough, name)}"
        for name in ("partitions", "replicas")
        if getattr(enough, name) > getattr(site, name)
    ]
    among_sites = "; or divide the sites among servers that share nothing" * (site.sites > 1)
    if found.core_batched > BUSY:
        wants = f": {' '.join(ways)}" if ways else ""
        if plan(enough).core_batched > BUSY:
            wants = f"; {MOST_REPLICAS} replicas are too few for so many questions: let your application ask less often"
        yield (
            "a server uses one core, and that is too little for it. Replicas divide questions, partitions divide hits"
            f"{wants}{among_sites}"
        )
    elif found.core > BUSY:
        yield "let hits come in batches: by a Reporter, online feed or syslog"
    if found.machine > LARGEST_MACHINE_BYTES:
        yield f"few machines have that much memory; partitions divide it{among_sites}"
    part = _part(site)
    limits = Limits()
    for name, asked, option in (("users", part.users, "--max-users"), ("pages", part.pages, "--max-pages")):
        limit = getattr(limits, f"max_{name}")
        if asked > limit * site.sites:
            yield f"a site takes {limit:,} {name}: raise {option}"
    if site.sites > limits.max_sites:
        yield f"a server takes {limits.max_sites:,} sites: raise --max-sites"
    if site.connections + site.watchers > limits.max_connections:
        yield f"a server takes {limits.max_connections:,} connections: raise --max-connections"


def _core(share: float) -> str:
    return f"{100 * share:,.1f} %"


def size(n_bytes: int) -> str:
    """Write a size with two or three digits.

    >>> [size(n) for n in (900, 1_500_000, 57_300_000, 12_000_000_000)]
    ['900 B', '1.5 MB', '57 MB', '12 GB']
    """
    value, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:,.0f} {unit}"
