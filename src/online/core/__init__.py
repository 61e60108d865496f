"""Who is online: the compiled core, the model that it is held to. It knows bytes and times, no sockets and no files.

The sources are `ext/NAME.pyx`. Here stand their contracts: `NAME.pxd` for C, `NAME.pyi` for Python. What is inline
has no source: its `.pxd` is the code.

    arena       memory in blocks, named by 32-bit references
    skiplist    records that stand in several orders at once            -> arena
    table       name -> record                                          -> skiplist
    core        the rules: hit, leave, expire, count                    -> table
    ahead       hits side by side, their waits for memory overlapped    -> core
    lists       lists of sessions, and their cursors                    -> core
    sections    sums over pages: SECTION and TOP                        -> lists
    index       the Python surface of a core                            -> ahead, lists, sections
    sites       all indexes by name, and the memory that they share     -> index

    codec       what both dialects share: buffers, arguments            -> skiplist
    resp_values     values of RESP <-> bytes, inline                    -> skiplist
    msgpack_values  values of MessagePack <-> bytes, inline             -> codec
    notes       what was applied -> frames, inline                      -> core, msgpack_values
    checksum    CRC-32C, for records on disk
    journal     what was applied -> records in a file, a write a turn   -> checksum, index, notes
    replay      records -> indexes                                      -> journal, ahead
    connection  bytes in, answers out, in turns                         -> index, journal, msgpack_values, resp_values
    arguments   arguments of verbs, checked                             -> codec, index, resp_values
    verbs       the verb table, and how a verb is answered              -> arguments, connection
    resp        RESP: frames -> arguments                               -> verbs
    msgpack     MessagePack-RPC: frames -> arguments                    -> verbs
    hits        HIT, LEAVE and batches                                  -> msgpack, verbs
    questions   COUNT, PAGE and the other hot questions                 -> verbs
    transactions  MULTI and EXEC                                        -> verbs
    frames      sessions -> frames; frames of hits -> an index          -> connection, notes
    observers   what was written to an index, and what changed in it    -> index, notes
    wire        puts these together, for Python                         -> frames, verbs
    reactor     plain sockets over epoll, in turns (Linux)              -> connection

    reference   the rules again, in plain Python: the specification that tests hold the index to
"""
