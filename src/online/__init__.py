"""Who is online now, and on which page: a server for busy sites.

The map, for a newcomer. Each folder has a map of its own in its `__init__`. An arrow is an allowed import, also of
what its end may import; nothing imports against it, and a test reads these maps and holds them true.

    core    who is online: the compiled index, its dialects, and its model in plain Python
    logs    access logs: lines -> records -> page views -> hits     -> online_client
    keep    what outlives the process                               -> core
    serve   the server: sockets, housekeeping, configuration        -> keep, logs, core
    cli     the command line, and where the parts are put together  -> serve, keep, logs, core, online_client

To come: `http` and `bus` (-> serve, core; cli -> http, bus).

Said once, for all:

    terms   the shared words: kinds, ranges, statistics
    limits  every limit and its default
    errors  every error that has a wording of its own
    files   files that are written whole, by one process at a time
"""

__version__ = "0.1.0"
