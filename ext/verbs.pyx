"""The verb table: a row for each verb, and how a verb is carried out and answered.

Its job: to find a verb, judge whether it may run and has a right number of arguments, and to write its whole reply, or
the error that it raised. Not its job: what verbs do. Hot verbs register a C function beside it (hits, questions); rare
ones have a row without one (`register`), and are handed to the host.

The answers stand in the output in the order of the requests.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from concurrent.futures import Future

from online import errors
from online.core.connection import NOT_YET
from online.errors import OnlineError

from online.core.arguments cimport arg_text
from online.core.codec cimport Arg, buffer_used
from online.core.connection cimport (
    REPLY_ON, REPLY_SKIP, REPLY_SKIPPED, WORK_A_TURN, Connection, Replying, core_of, put_error, put_object,
    begin_reply, is_listening,
)
from online.core.index cimport bytes_from
from online.core.skiplist cimport Name

cdef enum:
    WORK_RARE_VERB = 64
    WORK_SUGGESTION = 32                                 # a verb is looked for that may have been meant
    ARGS_A_UNIT = 8                                      # arguments of a rare verb
    MAX_VERBS = 64

cdef Verb VERBS[MAX_VERBS]
cdef Verb HANDED[MAX_VERBS]                              # the same, but the host carries out hits and questions
cdef int N_VERBS = 0
cdef dict USAGES = {}
cdef verb_call_t QUEUE = NULL


cdef int verb(str usage, verb_t run, int64_t fewest, int64_t most, int flags=0) except -1:
    """Add a row to the verb table; the first ones are found first. `run` NULL: the host carries it out."""
    global N_VERBS
    name = usage.split()[0].encode()
    if N_VERBS == MAX_VERBS or len(name) >= VERB_BYTES:
        raise RuntimeError(f"the verb table has no room for {usage}")
    memcpy(VERBS[N_VERBS].name, <const char*>name, len(name))
    VERBS[N_VERBS].run = run
    VERBS[N_VERBS].fewest = fewest
    VERBS[N_VERBS].most = most
    VERBS[N_VERBS].flags = flags
    HANDED[N_VERBS] = VERBS[N_VERBS]
    if flags & (ASKS | WRITES):
        HANDED[N_VERBS].run = NULL
    USAGES[name.decode()] = usage
    N_VERBS += 1
    return 0


def register(
        str usage, int64_t fewest, int64_t most, bint before_auth=False, bint at_once=False, bint while_loading=False,
        bint while_subscribed=False, bint asks=False):
    verb(
        usage, NULL, fewest, most,
        BEFORE_AUTH * before_auth | AT_ONCE * at_once | WHILE_LOADING * while_loading
        | WHILE_SUBSCRIBED * while_subscribed | ASKS * asks)


def rows():
    cdef int i
    return [(USAGES[verb_text(&VERBS[i])], VERBS[i].fewest, VERBS[i].most, VERBS[i].flags & BEFORE_AUTH != 0)
            for i in range(N_VERBS)]


cdef const Verb* find_verb(Name name) noexcept nogil:
    """Return the row of a verb, in either case, or NULL."""
    cdef char upper[VERB_BYTES]
    cdef uint32_t i
    if name.n_bytes >= VERB_BYTES:
        return NULL
    memset(upper, 0, VERB_BYTES)
    for i in range(name.n_bytes):
        if name.at[i] == 0:
            return NULL
        upper[i] = name.at[i] - 32 if c'a' <= name.at[i] <= c'z' else name.at[i]
    for i in range(N_VERBS):
        if memcmp(VERBS[i].name, upper, VERB_BYTES) == 0:
            return &VERBS[i]
    return NULL


cdef int queue_register(verb_call_t queue) except -1:
    """Let `queue` keep verbs, or carry them out, while a transaction is open."""
    global QUEUE
    QUEUE = queue
    return 0


cdef int judge_args(Connection c, verb_t run, Arg* args, int64_t n_args) except -1:
    """Raise what a server says of wrong arguments: its own function is asked, and finds nobody."""
    cdef size_t mark = buffer_used(&c.output)
    run(c, args, n_args)
    c.output.end = c.output.start + mark
    return 0


cdef int call_host(Connection c, str name, verb_t judge, Arg* args, int64_t n_args) except -1:
    """Hand a verb up, and write its result, or return LATER: while it goes on, or its reply is awaited."""
    cdef int64_t i
    cdef Name text
    cdef list given = []
    c.work += WORK_RARE_VERB + n_args // ARGS_A_UNIT
    if c.awaited is not None:
        awaited, c.awaited = c.awaited, None
        return put_object(c, awaited.result())
    if judge != NULL:
        judge_args(c, judge, args, n_args)
    for i in range(n_args):
        arg_text(&args[i], "an argument", &text)
        given.append(bytes_from(text))
    result = c.service.host.call(c, name, given, core_of(c).now_ms)
    if isinstance(result, Future):
        c.awaited = result
        return LATER
    return LATER if result is NOT_YET else put_object(c, result)


cdef const Verb* check_verb(Connection c, Name name, int64_t n_args) except NULL:
    """Return the row of a verb that may run with so many arguments. Raises OnlineError for any other."""
    cdef const Verb* row = find_verb(name)
    if not c.authenticated and (row == NULL or not row.flags & BEFORE_AUTH):
        raise errors.token_wanted(bytes_from(name))
    if row == NULL:
        c.work += WORK_SUGGESTION
        raise errors.unknown_verb(bytes_from(name), USAGES)
    if n_args < row.fewest or (row.most != ANY and n_args > row.most):
        raise errors.wrong_arity(verb_text(row), USAGES[verb_text(row)], n_args)
    if c.service.is_barred or not c.may_write or c.n_subscriptions:
        check_bars(c, row.flags)
        if c.service._handing:
            return &HANDED[row - VERBS]
    return row


cdef int check_bars(Connection c, int flags) except -1:
    """Raise an OnlineError that says why `c` cannot have verbs with these flags now, if it cannot."""
    if is_listening(c) and not flags & WHILE_SUBSCRIBED:
        raise errors.listening()
    if flags & WRITES and not c.may_write:
        raise errors.not_permitted("hits and leaves", "write")
    if c.service._loading is not None and not flags & WHILE_LOADING:
        raise errors.LoadingError(c.service._loading)
    if c.service._refusing is not None and flags & WRITES:
        raise errors.DiskRefusedError(c.service._refusing)
    if c.service._unanswered is not None and flags & ASKS:
        raise OnlineError(c.service._unanswered)
    return 0


cdef int run_verb(Connection c, Name name, Arg* args, int64_t n_args) except -1:
    """Carry out a verb and write its result, or return LATER or MORE.

    Raises OnlineError for what is to be an error reply.
    """
    cdef const Verb* row = check_verb(c, name, n_args)
    cdef verb_t judge
    c.service.last_verb = row.name
    if row.run == NULL:
        judge = VERBS[row - HANDED].run if c.service._handing else NULL
        return call_host(c, verb_text(row), judge, args, n_args)
    return row.run(c, args, n_args)


cdef str verb_text(const Verb* row):
    return (<bytes>row.name).decode()


cdef void skip_begins(Connection c) noexcept:
    if c.replying == REPLY_SKIP:
        c.replying = REPLY_SKIPPED


cdef bint is_reply_wanted(Connection c) noexcept:
    """Whether CLIENT REPLY, which may have been the verb just answered, lets the reply out."""
    cdef bint is_let_out = c.replying == REPLY_ON
    if c.replying == REPLY_SKIPPED:
        c.replying = REPLY_ON
    return is_let_out


cdef int answer(Connection c, Name name, Arg* args, int64_t n_args, bint wants_reply) except -1:
    """Carry out a verb and leave its whole reply in the output, or none where none is wanted.

    Returns LATER for a verb that gives up its turn, without a trace or with the first part of its reply: its frame is
    to stay where it is.
    """
    cdef size_t mark = buffer_used(&c.output)
    cdef Replying replying = c.replying
    cdef int result = 0
    skip_begins(c)
    c.work += 1
    c.frames += 1
    c.service.commands += 1
    try:
        if not c.is_partly_answered:
            begin_reply(c, False)
        if c.transaction is None:
            result = run_verb(c, name, args, n_args)
        else:
            result = QUEUE(c, name, args, n_args)
    except OnlineError as error:
        c.output.end = c.output.start + mark
        put_error(c, error)
        c.is_closing |= c.is_partly_answered             # nobody can read what follows half a reply
    if result == MORE:
        c.is_partly_answered = True
        if c.replying != REPLY_ON or not wants_reply:
            c.output.end = c.output.start + mark
    elif result == LATER:
        c.output.end = c.output.start + mark
        c.replying = replying
    if result != 0:
        c.frames -= 1
        c.service.commands -= 1
        c.work = WORK_A_TURN
        return LATER
    c.is_partly_answered = False
    if not is_reply_wanted(c) or not wants_reply:
        c.output.end = c.output.start + mark
    return 0
