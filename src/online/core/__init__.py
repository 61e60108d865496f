"""The compiled core: who is online, the wire protocol, and usual log lines.

It knows bytes and times, but no sockets and no files.

The sources are `ext/NAME.pyx`. Their contracts are here: `NAME.pxd` for C, `NAME.pyi` for Python. Inline code has no
source: its `.pxd` is the code.

    arena       memory in blocks, named by 32-bit references
    skiplist    records in several orders at once                       -> arena
    table       name -> record                                          -> skiplist
    slots       whose users a server has, where they are divided        -> skiplist
    core        the rules: hit, leave, expire, count                    -> slots, table
    ahead       batches of hits, with memory waits overlapped           -> core
    nameorder   all names sorted at once, after a start                 -> core
    lists       lists of sessions, and their cursors                    -> core
    sections    sums over pages: SECTION and TOP                        -> lists
    index       the Python surface of a core                            -> ahead, nameorder, lists, sections
    sites       all indexes by name, and the memory that they share     -> index

    codec       what both dialects share: buffers, arguments            -> skiplist
    resp_values     values of RESP <-> bytes, inline                    -> codec
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
    hits        HIT, LEAVE and batches                                  -> msgpack, resp
    questions   COUNT, PAGE and the other hot questions                 -> verbs
    transactions  MULTI and EXEC                                        -> verbs
    frames      sessions -> frames; frames of hits -> an index          -> connection, notes
    observers   which hits were applied, and which pages changed        -> index, notes
    states      what is told of a channel, as JSON                      -> arguments, sections
    past        counts of a minute, its visitors, who has gone          -> index
    merge       batches -> owners, their answers -> one                 -> index, msgpack_values
    wire        all dialects and verbs together, for Python             -> frames, verbs
    system      calls of Linux: sockets, epoll, clocks, inline
    peers       sockets with their connections, step by step (Linux)    -> connection, system
    gets        the hottest requests of HTTP, again (Linux)    -> connection, states, system
    reactor     who waits at sockets, and whose turn it is (Linux)      -> peers

    logfields   a usual line of an access log -> its fields             -> skiplist
    jsonfields  a usual JSON object -> its fields                       -> logfields, index
    datagrams   datagrams, received together                            -> skiplist
    guests      addresses and agents -> names of guests and bots        -> index
    known       what was said of parts of lines, found again, inline    -> checksum, skiplist
    tally       what lines say beside page views, counted               -> known, logfields
    usual       usual lines -> page views, by what is known of them     -> datagrams, guests, jsonfields, tally
    crowd       page views of a log -> who was online when, for reports  -> table

    reference   the rules in plain Python: the specification that the index is tested against
"""
