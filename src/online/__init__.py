"""Who is online now, and on which page: a server for busy sites.

A map of the code. Each folder has its own map in its `__init__`. An arrow is an allowed import, and includes what its
end may import. Nothing imports against the arrows; a test reads these maps and checks them.

    core    who is online: the compiled index, its dialects, and its model in plain Python
    logs    access logs: lines -> records -> page views -> hits     -> core, online_client
    keep    what is kept over a restart                             -> core
    serve   the server: sockets, housekeeping, configuration        -> keep, logs, core
    http    seen in a browser: dashboard, JSON API, metrics         -> serve, core, logs
    bus     hits shared with other servers over Redis or Kafka      -> serve, core
    gateway  one answer of servers that each know a part of the users  -> http, serve, core, online_client
    cli     the command line, and where the parts are put together  -> bus, gateway, http, online_client

Shared by all:

    terms   the shared words: kinds, ranges, statistics
    limits  every limit and its default
    errors  every error, and the wording of most
    pieces  long work, which rests so that others have their turn
    files   files that are replaced as a whole, by one process at a time
    partitions  the map of partitions: which servers know which users
"""

__version__ = "1.0.0"
