"""Who is online now, and on which page: a server for busy sites.

The map, for a newcomer. An arrow is an allowed import; nothing imports against it.

    the compiled core (ext/NAME.pyx; its contracts are NAME.pxd and NAME.pyi in this folder)
        arena       memory in blocks, named by 32-bit references
        skiplist    records that stand in several orders at once        -> arena
        table       name -> record                                      -> skiplist
        core        the rules: hit, leave, expire, count, list ...      -> skiplist, table
        index       the Python surface of a core                        -> core
        wire        MessagePack and RESP: bytes <-> verbs               -> core, index
        reactor     plain sockets over epoll, in turns (Linux)          -> wire
    the server
        server      Trio: listeners, housekeeping, shutdown             -> streams, reactor, syslog, verbs, state, clock
        streams     connections over Trio streams, a task each          -> wire
        syslog      access logs as syslog -> hits                       -> pages, rules, formats, wire, verbs, config
        verbs       the rare verbs: SITE, INFO, TOP, AUTH ...           -> index, wire
        state       the sessions of all sites, to a file and back       -> wire, verbs, files
        clock       index time, and the steps of the wall clock
        config      flags, environment, TOML -> one Config              -> limits
    the command line
        cli         `online serve | query | top | feed | report ...`    -> server, commands below
        query       ask a running server                                -> online_client
        screen      frames for `online top`, and what keys change       -> online_client, query
        top         watch a running server on a terminal                -> online_client, query, screen
        report      what a site looked like, from its logs              -> index, hitlog, pages
        feed        logs that grow, to a server                         -> sending, follow, pages, places, hitlog
        sending     hits that wait for a server                         -> online_client, pages
        replay      a log as live traffic                               -> online_client, hitlog
        demo        a server with a simulated site                      -> server, online_client
    access logs
        records     what a line tells; times and quotes
        formats     lines -> records, by the name of the format         -> jsonlines, logformat, records
        rules       what is a page view, and who is the user: as set
        pages       records -> page views: whose, and of what kind      -> rules, records, files
        hitlog      logs, from first to last line -> hits               -> formats
        follow      logs that grow, through rotation                    -> hitlog
        places      how far logs were sent, to a file and back          -> follow, files
    said once
        files       files written whole, by one process at a time
        terms       the shared words: kinds, ranges, statistics
        limits      every limit and its default
        errors      every error and its wording
        reference   the rules again, in plain Python: the specification that tests hold the index to

What follows from the layout: a new verb is one row of the verb table in `wire` and one function; a new way in for
hits is one file that turns bytes into hits; a new dialect is one section of `wire`.
"""

__version__ = "0.1.0"
