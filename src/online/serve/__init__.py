"""The server: Trio, sockets, configuration, and the verbs that are too rare to be worth C.

What a server is:

    server        the tree of its tasks, and the order of ending  -> housekeeping, listeners, parts, sockets, streams
    parts         the seam: what runs beside the connections            -> verb
    housekeeping  tasks that must not fail; each full second            -> clock, slices, verbs
    slices        long work, a little in each turn                -> delays
    delays        how long everybody else waited, and for what
    clock         index time, and the steps of the wall clock
    collector     Python's collector of cycles, which makes nobody wait    -> delays

Its parts, which `cli/serve.py` attaches:

    keeper        the state directory: journal, syncs, snapshots        -> kept, parts, slices
    kept          its lines of the log and of INFO persistence          -> settings
    past          history, visitors, who was last seen where            -> connections, parts, slices
    syslog        access logs that come over syslog -> hits             -> listeners, parts
    systemd       what systemd is told of the server                    -> parts

Who is connected:

    connections   the hub: who is open, and what all share              -> listeners, tokens
    streams       connections over Trio streams, a task each            -> connections, progress, tls
    sockets       connections over plain sockets, by the reactor        -> connections, delays
    listeners     opens all sockets                                     -> config, handover, progress
    handover      sockets that systemd has opened
    push          channels: who is told when something changes          -> connections, slices, tokens
    progress      streams that give up when sending makes no progress
    tls           certificates, and why a handshake failed

The rare verbs:

    verbs         the table of rare verbs                               -> info, verbs_access, verbs_clients,
            verbs_command, verbs_past, verbs_push, verbs_redis, verbs_sites
    info          INFO: every section and figure                        -> delays, verb
    verbs_access  AUTH HELLO RESET QUIT                                 -> given, verbs_sites
    verbs_clients  CLIENT                                               -> given, listeners, verb
    verbs_command  COMMAND                                              -> verb
    verbs_push    SUBSCRIBE UNSUBSCRIBE                                 -> push, verb
    verbs_redis   what else Redis' clients, proxies and monitoring ask  -> given, verb
    verbs_past    PEAK HISTORY LAST FORGET                              -> given, verb
    verbs_sites   SITE SITES SELECT                                     -> given, verb
    verb          how a verb gets its row, and what it may use          -> connections, delays, meter, push
    meter         verbs a second, the most memory so far, histograms
    given         arguments, checked

What it is told:

    loading       options, variables and a file -> one Config           -> settings
    settings      every setting: its name, its values, its help         -> config
    config        what a server is told                                 -> tokens
    tokens        who may do what, on which site
"""
