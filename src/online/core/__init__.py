"""Who is online: the compiled core, the model that it is held to. It knows bytes and times, no sockets and no files.

The sources are `ext/NAME.pyx`. Here stand their contracts: `NAME.pxd` for C, `NAME.pyi` for Python.

    arena       memory in blocks, named by 32-bit references
    skiplist    records that stand in several orders at once        -> arena
    table       name -> record                                      -> arena, skiplist
    core        the rules: hit, leave, expire, count, list ...      -> arena, skiplist, table
    index       the Python surface of a core                        -> arena, skiplist, table, core
    sites       all indexes by name, and the memory that they share  -> index
    wire        MessagePack and RESP: bytes <-> verbs               -> arena, skiplist, core, index
    reactor     plain sockets over epoll, in turns (Linux)          -> wire
    reference   the rules again, in plain Python: the specification that tests hold the index to
"""
