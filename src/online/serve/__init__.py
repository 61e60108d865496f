"""The server: Trio, sockets, configuration, and the verbs that are too rare to be worth C.

    server      listeners, housekeeping, shutdown                   -> streams, syslog, verbs, clock, config
    streams     connections over Trio streams, a task each
    syslog      access logs that come over syslog -> hits           -> verbs, config
    verbs       the rare verbs: SITE, INFO, TOP, AUTH ...
    clock       index time, and the steps of the wall clock
    config      flags, environment, TOML -> one Config
"""
