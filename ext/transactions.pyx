"""Transactions as Redis has them: MULTI, EXEC, DISCARD; and WATCH, UNWATCH, which find nothing to do.

Its job: to keep the verbs that come between MULTI and EXEC, and to carry them out together. Not its job: what they do.

An EXEC is of one moment: it is one frame, so nothing comes in between, and all its verbs see the same time. One that
takes more than a turn, as thousands of verbs do, goes on in the next turns, so that nobody waits for all of it.

A verb that is wrong in itself (unknown, a wrong number of arguments, or one that cannot be queued) is answered by an
error when it comes and spoils the EXEC, which then carries out nothing. MULTI and WATCH are refused and spoil nothing,
as in Redis. A verb that fails when it is carried out has its error in its place; the others stand.

Invariants:
1. What is kept is within `max_items` verbs and `max_frame` bytes, and is counted in `service.buffered_bytes` until
   it is given back, at the latest with its connection.
2. The verbs of an EXEC are all carried out. Replies wait for a client as those of a pipeline do: it goes on when they
   have gone.
"""

from libc.stdint cimport int64_t

from online import errors
from online.errors import OnlineError

from online.core.arguments cimport arg_text
from online.core.codec cimport NIL, TEXT, Arg, buffer_used
from online.core.connection cimport (
    MSGPACK, WORK_A_TURN, Connection, Service, core_of, put_array, put_error, put_line, put_object, put_ok, put_text,
)
from online.core.core cimport core_expire_some
from online.core.index cimport bytes_from, name_from
from online.core.skiplist cimport Name
from online.core.verbs cimport ANY, AT_ONCE, LATER, MORE, Verb, check_verb, queue_register, run_verb, verb

cdef enum:
    BYTES_A_WORD = 64                                    # of a bytes object, and its place in a list
    EXPIRED_A_TURN = 256                                 # sessions that an EXEC drops before it begins


cdef class Transaction:
    """What came between MULTI and EXEC."""

    cdef Service service
    cdef list queued                                     # lists of words, the verb first; None for nil
    cdef Py_ssize_t n_done                               # of them, by an EXEC under way
    cdef readonly int64_t n_bytes
    cdef bint is_spoiled

    def __cinit__(self, Service service not None):
        self.service = service
        self.queued = []

    def __dealloc__(self):
        self.service.buffered_bytes -= self.n_bytes


cdef int queue_verb(Connection c, Name name, Arg* args, int64_t n_args) except -1:
    """Take a verb that comes after MULTI: keep it for EXEC, or carry it out if it is one of the transaction itself.

    Raises OnlineError, and spoils the EXEC, if it is wrong in itself or there is no room.
    """
    cdef Transaction transaction = c.transaction
    cdef const Verb* row
    try:
        if c.dialect == MSGPACK and name.n_bytes == 4 and bytes_from(name).lower() == b"hits":
            raise errors.in_transaction("hits")
        row = check_verb(c, name, n_args)
        if not row.flags & AT_ONCE:
            keep_verb(c, transaction, name, args, n_args)
        elif row.run == NULL:
            return run_verb(c, name, args, n_args)
    except OnlineError:
        transaction.is_spoiled = True
        raise
    if row.flags & AT_ONCE:
        return run_verb(c, name, args, n_args)
    if c.dialect == MSGPACK:
        return put_text(c, name_from(b"QUEUED"))
    return put_line(c, c'+', b"QUEUED")


cdef int keep_verb(Connection c, Transaction transaction, Name name, Arg* args, int64_t n_args) except -1:
    """Copy a verb, within the limits."""
    cdef Name text
    cdef int64_t i, n_bytes = BYTES_A_WORD + name.n_bytes
    cdef list words = [bytes_from(name)]
    for i in range(n_args):
        n_bytes += BYTES_A_WORD
        if args[i].type == NIL:
            words.append(None)
            continue
        arg_text(&args[i], "an argument", &text)
        words.append(bytes_from(text))
        n_bytes += text.n_bytes
    if len(transaction.queued) >= c.service.max_items:
        raise errors.transaction_too_long(c.service.max_items, "verbs")
    if transaction.n_bytes + n_bytes > <int64_t>c.service.max_frame:
        raise errors.transaction_too_long(c.service.max_frame, "bytes")
    transaction.queued.append(words)
    transaction.n_bytes += n_bytes
    c.service.buffered_bytes += n_bytes
    return 0


cdef int put_failure(Connection c, error) except -1:
    """Write an error in the place of a reply: MessagePack has no errors inside of results, so a map stands for one."""
    if c.dialect != MSGPACK:
        return put_error(c, error)
    return put_object(c, {"error": [error.code, str(error)]})


cdef int run_queued(Connection c, list words) except -1:
    """Carry out a verb of a transaction and write its reply, or return LATER."""
    cdef size_t mark = buffer_used(&c.output)
    cdef int64_t i, n_args = len(words) - 1
    cdef int result = 0
    cdef Arg* args = c.service.args
    for i in range(n_args):
        args[i].type = NIL if words[i + 1] is None else TEXT
        if words[i + 1] is not None:
            args[i].text = name_from(<bytes>words[i + 1])
    c.work += 1
    c.service.commands += 1
    try:
        result = run_verb(c, name_from(<bytes>words[0]), args, n_args)
    except OnlineError as error:
        c.output.end = c.output.start + mark
        put_failure(c, error)
    if result == LATER:
        c.output.end = c.output.start + mark
        c.service.commands -= 1
    return result


cdef int verb_multi(Connection c, Arg* args, int64_t n_args) except -1:
    if c.transaction is not None:
        raise errors.in_transaction("MULTI")
    c.transaction = Transaction(c.service)
    return put_ok(c)


cdef int verb_exec(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Transaction transaction = c.transaction
    cdef int64_t end = c.work + WORK_A_TURN              # whatever came before it in this turn
    if transaction is None:
        raise errors.no_transaction("EXEC")
    if transaction.is_spoiled:
        c.transaction = None
        raise errors.spoiled_transaction()
    if not c.is_partly_answered:
        core_expire_some(core_of(c), EXPIRED_A_TURN)
        if core_of(c).overdue:
            return LATER
        put_array(c, len(transaction.queued))
    while transaction.n_done < len(transaction.queued):
        if c.work >= end or buffer_used(&c.output) > c.service.max_output:
            return MORE
        if run_queued(c, transaction.queued[transaction.n_done]) == LATER:
            return MORE
        transaction.n_done += 1
    c.transaction = None
    return 0


cdef int verb_discard(Connection c, Arg* args, int64_t n_args) except -1:
    if c.transaction is None:
        raise errors.no_transaction("DISCARD")
    c.transaction = None
    return put_ok(c)


cdef int verb_watch(Connection c, Arg* args, int64_t n_args) except -1:
    if c.transaction is not None:
        raise errors.in_transaction("WATCH")
    return put_ok(c)


cdef int verb_unwatch(Connection c, Arg* args, int64_t n_args) except -1:
    return put_ok(c)


queue_register(queue_verb)
verb("MULTI", verb_multi, 0, 0, AT_ONCE)
verb("EXEC", verb_exec, 0, 0, AT_ONCE)
verb("DISCARD", verb_discard, 0, 0, AT_ONCE)
verb("WATCH key [key ...]", verb_watch, 1, ANY, AT_ONCE)
verb("UNWATCH", verb_unwatch, 0, 0)
