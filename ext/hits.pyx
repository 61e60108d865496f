"""Hits and leaves, from arguments to the index: HIT, LEAVE, and the batches of `hits`.

Its job: to make hits of arguments, carry them out, and say what became of them. Not its job: that the newest wins
(core), and how a message is framed (msgpack, which hands over what follows the head of a batch).

A batch is taken hit by hit as it comes, HITS_AT_ONCE together, and is not atomic: each hit stands for itself.

Invariants:
1. Every hit and leave of a client is carried out by `take_hit`, `settle_hits` or `run_hits`, and by nothing else.
2. What is read in one pass gives what is read with care would give, to the byte. Where there is a doubt, it is odd.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from online import errors
from online.errors import FramingError, OnlineError
from online.terms import KINDS, SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS

from online.core.ahead cimport core_hits
from online.core.arguments cimport arg_kind, arg_number, arg_text, is_given
from online.core.codec cimport BROKEN, COMPLETE, INCOMPLETE, Arg
from online.core.msgpack_values cimport ARRAY, SCALAR, Token, read_token
from online.core.connection cimport (
    REPLY_ON, WORK_A_TURN, WORK_ERROR, Connection, Frame, Service,
    begin_reply, core_of, frame_limit, index_of, put_error, put_object, put_ok, room, scan_anew, wall_of, wrote,
)
from online.core.core cimport (
    ACCEPTED, BAD_USER, HITS_AT_ONCE, Core, Hit, Outcome, core_hit, core_weigh_hit,
)
from online.core.index cimport Index, name_from, refusal
from online.core.msgpack cimport batch_register, check_token, end_frame, pack_scan
from online.core.resp cimport hits_register
from online.core.resp_values cimport parse_int
from online.core.skiplist cimport DEPARTED, MEMBER, Name, same_name
from online.core.skiplist cimport big_endian as big_endian_word
from online.core.verbs cimport WRITES, check_bars, is_reply_wanted, skip_begins, verb

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS

cdef list KIND_TEXTS = [kind.encode() for kind in KINDS]
cdef Name KIND_NAMES[4]                                  # by Kind
for _kind in range(4):
    KIND_NAMES[_kind] = name_from(KIND_TEXTS[_kind])


cdef int hit_from(
        Hit* hit, const Core* core, Service service, Arg* args, int64_t n_args, bint is_leave) except -1:
    """Fill `hit` from `user url [seen_ms [kind]]`, or `user [seen_ms]` of a leave."""
    cdef int64_t seen = 1 if is_leave else 2
    cdef int64_t seen_ms
    arg_text(&args[0], "user", &hit.user)
    hit.kind = DEPARTED
    if not is_leave:
        arg_text(&args[1], "url", &hit.url)
        hit.kind = MEMBER
    hit.seen_ms = core.now_ms
    if is_given(args, n_args, seen):
        arg_number(&args[seen], "seen_ms", SEEN_MIN_MS, SEEN_MAX_MS, &seen_ms)
        if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
            raise errors.bad_seen(seen_ms)
        hit.seen_ms = index_of(service, seen_ms)
    if is_given(args, n_args, 3):
        hit.kind = arg_kind(&args[3])
    return 0


cdef int take_hit(Connection c, Arg* args, int64_t n_args, bint is_leave) except -1:
    """Carry out HIT or LEAVE; a site that is not there yet begins with a good hit. Returns its Outcome."""
    cdef Hit hit
    cdef Outcome outcome
    cdef Index index = c._index if c.core != NULL else c.service.nobody
    c.has_written = True
    try:
        hit_from(&hit, &index.core, c.service, args, n_args, is_leave)
    except OnlineError:
        index.core.tally.refused += 1
        raise
    if c.service._handing:                               # the owner of the user takes it
        return ACCEPTED
    if c.core == NULL:
        outcome = core_weigh_hit(&index.core, &hit)
        if outcome >= BAD_USER:
            raise refusal(index, &hit, outcome, wall_of(c.service, hit.seen_ms))
        if outcome != ACCEPTED:
            return outcome
        c.index = index = open_site(c)
    outcome = core_hit(c.core, &hit)
    if outcome >= BAD_USER:
        raise refusal(index, &hit, outcome, wall_of(c.service, hit.seen_ms))
    return outcome


cdef Index open_site(Connection c):
    """Ask the host for the index of a site's first hit."""
    try:
        return c.service.host.open_site(c, c.now_ms)
    except OnlineError:
        c.service.nobody.core.tally.refused += 1
        raise


cdef int verb_hit(Connection c, Arg* args, int64_t n_args) except -1:
    take_hit(c, args, n_args, False)
    return put_ok(c)


cdef int verb_leave(Connection c, Arg* args, int64_t n_args) except -1:
    take_hit(c, args, n_args, True)
    return put_ok(c)


# HITs in a row, in RESP. Nearly all have one shape, which is read in one pass. All others are read with care.

cdef enum:
    HEAD_BYTES = 13                                      # of `*3 $3 HIT`, with the ends of its lines
    OK_BYTES = 5

cdef inline const char* usual_word(const char* at, const char* end, Name* text) noexcept nogil:
    """Read a bulk string of up to 999 bytes that is all there; return where it ends, or NULL."""
    cdef size_t n_bytes
    if end - at < 6 or at[0] != c'$' or not c'0' <= at[1] <= c'9':
        return NULL
    n_bytes = at[1] - c'0'
    at += 2
    if c'0' <= at[0] <= c'9':
        n_bytes = 10 * n_bytes + at[0] - c'0'
        at += 1
        if c'0' <= at[0] <= c'9':
            n_bytes = 10 * n_bytes + at[0] - c'0'
            at += 1
    if <size_t>(end - at) < n_bytes + 4 or at[0] != c'\r' or at[1] != c'\n':
        return NULL
    at += 2
    text.at = at
    text.n_bytes = <uint32_t>n_bytes
    at += n_bytes
    return at + 2 if at[0] == c'\r' and at[1] == c'\n' else NULL


cdef inline bint usual_kind(Name text, int* kind) noexcept nogil:
    """Read a kind; False if it is none."""
    cdef int each
    for each in range(4):
        if same_name(text, KIND_NAMES[each]):
            kind[0] = each
            return True
    return False


cdef inline size_t usual_command(const char* begin, const char* end, Connection c, Hit* hit) noexcept nogil:
    """Read `HIT user url`, perhaps with a time and a kind; return its bytes, or 0 if it is not all there, or odd."""
    cdef const char* at = begin + HEAD_BYTES
    cdef Name text
    cdef int64_t seen_ms
    if end - begin <= HEAD_BYTES or begin[0] != c'*' or not c'3' <= begin[1] <= c'5':
        return 0
    if memcmp(begin + 2, b"\r\n$3\r\nHIT\r\n", HEAD_BYTES - 2) != 0:
        return 0
    at = usual_word(at, end, &hit.user)
    if at != NULL:
        at = usual_word(at, end, &hit.url)
    hit.kind = MEMBER
    hit.seen_ms = c.core.now_ms
    if at != NULL and begin[1] > c'3':
        at = usual_word(at, end, &text)
        if at == NULL or not parse_int(text, &seen_ms) or not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
            return 0
        hit.seen_ms = seen_ms - c.service.step_ms        # as index_of
    if at != NULL and begin[1] > c'4':
        at = usual_word(at, end, &text)
        if at == NULL or not usual_kind(text, &hit.kind):
            return 0
    return 0 if at == NULL else at - begin


cdef int run_hits(Connection c, const char* at, size_t n) except -1:
    """Carry out the HITs that the input begins with, up to HITS_AT_ONCE, and answer each; tell how many there were.

    None if anything but the hits themselves could have a say: a token, a lock, an open transaction.
    """
    cdef Hit hits[HITS_AT_ONCE]
    cdef Outcome outcomes[HITS_AT_ONCE]
    cdef const char* end = at + n
    cdef size_t most = frame_limit(c), size
    cdef int64_t most_hits = min(<int64_t>HITS_AT_ONCE, WORK_A_TURN - c.work)
    cdef int n_hits = 0
    if (
        c.core == NULL or c.service.is_barred or not c.may_write or not c.authenticated or c.service.max_items < 5
        or c.transaction is not None or c.replying != REPLY_ON or c.is_partly_answered or c.n_subscriptions
    ):
        return 0
    while n_hits < most_hits:
        size = usual_command(at, end, c, &hits[n_hits])
        if size == 0 or size > most:
            break
        at += size
        n_hits += 1
    if n_hits == 0:
        return 0
    room(c, OK_BYTES * n_hits)
    c.input.start += n - (end - at)
    c.work += n_hits
    c.frames += n_hits
    c.service.commands += n_hits
    c.service.last_verb = b"HIT"
    c.has_written = True
    if n_hits == 1:
        outcomes[0] = core_hit(c.core, &hits[0])
    else:
        core_hits(c.core, hits, n_hits, outcomes)
    answer_hits(c, hits, n_hits, outcomes)
    return n_hits


cdef int answer_hits(Connection c, const Hit* hits, int n_hits, const Outcome* outcomes) except -1:
    """Write the answers of HITs: OK, or why one was refused."""
    cdef int i
    for i in range(n_hits):
        if outcomes[i] < BAD_USER:
            memcpy(room(c, OK_BYTES), b"+OK\r\n", OK_BYTES)
            wrote(c, OK_BYTES)
        else:
            put_error(c, refusal(c._index, &hits[i], outcomes[i], wall_of(c.service, hits[i].seen_ms)))
    return 0


# A batch of hits. Nearly all hits have one shape, which is read in one pass. All others are read with care.

cdef enum:
    TIME_BYTES = 9                                       # of a time as uint 64: all since 1970-02-19 have that form


cdef inline const uint8_t* usual_text(const uint8_t* at, const uint8_t* end, Name* text) noexcept nogil:
    """Read text of up to 255 bytes that is all there; return where it ends, or NULL."""
    cdef size_t n_bytes
    if at >= end:
        return NULL
    if at[0] & 0xE0 == 0xA0:
        n_bytes = at[0] & 0x1F
        at += 1
    elif at[0] == 0xD9 and end - at > 1:
        n_bytes = at[1]
        at += 2
    else:
        return NULL
    if <size_t>(end - at) < n_bytes:
        return NULL
    text.at = <const char*>at
    text.n_bytes = <uint32_t>n_bytes
    return at + n_bytes


cdef inline const uint8_t* usual_hit(const uint8_t* begin, const uint8_t* end, Service service, Hit* hit) noexcept:
    """Read `[user, url, seen_ms]`, perhaps with a kind, in the shape that packers give it; return its end, or NULL."""
    cdef const uint8_t* at = begin + 1
    cdef Name kind
    cdef uint64_t seen_ms
    if begin >= end or not 0x93 <= begin[0] <= 0x94:
        return NULL
    at = usual_text(at, end, &hit.user)
    if at == NULL:
        return NULL
    at = usual_text(at, end, &hit.url)
    if at == NULL or end - at < TIME_BYTES or at[0] != 0xCF:
        return NULL
    memcpy(&seen_ms, at + 1, 8)
    seen_ms = big_endian_word(seen_ms)
    if not <uint64_t>SEEN_MIN_MS <= seen_ms <= <uint64_t>SEEN_MAX_MS:
        return NULL
    at += TIME_BYTES
    hit.kind = MEMBER
    if begin[0] == 0x94:
        at = usual_text(at, end, &kind)
        if at == NULL or not usual_kind(kind, &hit.kind):
            return NULL
    hit.seen_ms = index_of(service, <int64_t>seen_ms)
    return at


cdef int usual_hits(Connection c, const uint8_t* at, size_t n, Hit* hits, int most, size_t* used) noexcept:
    """Read the usual hits that come first, up to `most` and to where the frame may end; tell how many there were."""
    cdef Frame* frame = &c.frame
    cdef const uint8_t* begin = at
    cdef const uint8_t* end = at + min(n, frame_limit(c) - frame.size)
    cdef const uint8_t* hit_end
    cdef int n_hits = 0
    while n_hits < most:
        hit_end = usual_hit(at, end, c.service, &hits[n_hits])
        if hit_end == NULL:
            break
        at = hit_end
        n_hits += 1
    frame.left -= n_hits
    frame.n_taken += n_hits
    frame.size += at - begin
    used[0] += at - begin
    c.work += n_hits
    return n_hits


cdef int read_hit(Connection c, Arg* args, const uint8_t* at, size_t n, size_t* size, int64_t* n_args) except -2:
    """Read an item `[user, url, seen_ms, kind]` of a batch; returns a Progress, BROKEN for one of another shape."""
    cdef Token token
    cdef int64_t i
    cdef int progress = read_token(&token, at, n)
    check_token(c, &token, progress, c.frame.size, 2)
    if progress == INCOMPLETE:
        return INCOMPLETE
    if token.type != ARRAY or not 2 <= token.n <= 4:
        return BROKEN
    n_args[0] = token.n
    size[0] = token.size
    for i in range(n_args[0]):
        progress = read_token(&token, at + size[0], n - size[0])
        check_token(c, &token, progress, c.frame.size + size[0], 3)
        if progress == INCOMPLETE:
            return INCOMPLETE
        if token.type != SCALAR:
            return BROKEN
        args[i] = token.arg
        size[0] += token.size
        if size[0] > n:
            return INCOMPLETE
    return COMPLETE


cdef int batch_error(Connection c, int64_t nth, error) except -1:
    """Count a hit that was refused; the first error of a batch is kept for its answer."""
    c.work += WORK_ERROR
    c.frame.refused += 1
    if c.first_error is None:
        c.first_error = [getattr(error, "code", "FULL"), f"hit {nth} of the batch: {error}"]
    return 0


cdef int take_first_hit(Connection c, Arg* args, int64_t n_args) except -1:
    """Take a hit of a batch for a site that has no index yet, and may get one by it."""
    try:
        if take_hit(c, args, n_args, False) == ACCEPTED:
            c.frame.accepted += 1
        else:
            c.frame.ignored += 1
    except OnlineError as error:
        batch_error(c, c.frame.n_taken, error)
    return 0


cdef bint bar_hit(Connection c) except -1:
    """Refuse a hit of a batch that server or token does not allow; the batch is then answered with the error alone."""
    try:
        check_bars(c, WRITES)
    except OnlineError as error:
        c.frame.n_taken += 1
        c.frame.refused += 1
        core_of(c).tally.refused += 1
        if not c.frame.is_barred:
            c.frame.is_barred = True
            c.first_error = error
        return True
    return False


cdef int settle_hits(Connection c, const Hit* hits, int n_hits) except -1:
    """Carry out the hits of a batch that were read last, if any, and count what became of them."""
    cdef Outcome outcomes[HITS_AT_ONCE]
    cdef int i
    if n_hits == 0:
        return 0
    c.has_written = True
    core_hits(c.core, hits, n_hits, outcomes)
    for i in range(n_hits):
        if outcomes[i] == ACCEPTED:
            c.frame.accepted += 1
        elif outcomes[i] < BAD_USER:
            c.frame.ignored += 1
        else:
            error = None
            if c.first_error is None:
                error = refusal(c._index, &hits[i], outcomes[i], wall_of(c.service, hits[i].seen_ms))
            batch_error(c, c.frame.n_taken - n_hits + i + 1, error)
    return 0


cdef int skip_item(Connection c, const uint8_t* at, size_t n) except -2:
    """Step over an item of a batch that is no hit, or as much of it as there is; returns a Progress."""
    cdef int progress = pack_scan(c, at, n, 2)
    if progress != COMPLETE:
        return progress
    core_of(c).tally.refused += 1
    batch_error(c, c.frame.n_taken, errors.bad_hit())
    c.input.start += c.scan.at
    c.frame.size += c.scan.at
    c.frame.is_skipping = False
    scan_anew(c)
    c.scan.wanted = 1
    return COMPLETE


cdef int read_hits(Connection c, const uint8_t* at, size_t n, size_t* used) except -2:
    """Read and carry out hits of a batch, at most HITS_AT_ONCE; returns the Progress of the one that it stopped at."""
    cdef Frame* frame = &c.frame
    cdef Arg args[4 * HITS_AT_ONCE]
    cdef Hit hits[HITS_AT_ONCE]
    cdef size_t size = 0
    cdef int64_t n_args = 0
    cdef int most = <int>min(<int64_t>HITS_AT_ONCE, frame.left), n_hits = 0, n_read = 0, n_usual
    cdef int progress = COMPLETE
    cdef bint is_barred = (
        c.service._loading is not None or c.service._refusing is not None or not c.may_write)
    cdef bint may_be_usual = not is_barred and c.core != NULL and c.service.max_items >= 4 and c.service.max_depth > 2
    while n_read < most:
        if may_be_usual:
            n_usual = usual_hits(c, at + used[0], n - used[0], &hits[n_hits], most - n_read, used)
            n_hits += n_usual
            n_read += n_usual
            if n_read == most:
                break
        try:
            progress = read_hit(c, &args[4 * n_hits], at + used[0], n - used[0], &size, &n_args)
        except FramingError:
            settle_hits(c, hits, n_hits)
            raise
        if progress != COMPLETE:
            break
        n_read += 1
        frame.left -= 1
        frame.size += size
        used[0] += size
        c.work += 1
        if is_barred and bar_hit(c):
            continue
        if c.core == NULL:
            frame.n_taken += 1
            take_first_hit(c, args, n_args)
            continue
        try:
            hit_from(&hits[n_hits], c.core, c.service, &args[4 * n_hits], n_args, False)
        except OnlineError as error:
            settle_hits(c, hits, n_hits)
            n_hits = 0
            frame.n_taken += 1
            c.core.tally.refused += 1
            batch_error(c, frame.n_taken, error)
            continue
        frame.n_taken += 1
        n_hits += 1
    settle_hits(c, hits, n_hits)
    return progress


cdef int run_batch(Connection c, const uint8_t* at, size_t n) except -1:
    """Take the hits of a batch that are there, as long as the turn lasts, and answer after the last."""
    cdef Frame* frame = &c.frame
    cdef size_t used = 0
    cdef int progress = COMPLETE
    if c.service._handing:
        return hand_batch(c, at, n)
    while frame.left and progress == COMPLETE and c.work < WORK_A_TURN and not frame.is_skipping:
        progress = read_hits(c, at, n, &used)
    c.input.start += used
    if progress == BROKEN:
        frame.left -= 1
        frame.n_taken += 1
        frame.is_skipping = True
    if frame.is_skipping:
        progress = skip_item(c, at + used, n - used)
    c.is_waiting = progress == INCOMPLETE
    if frame.left == 0 and not frame.is_skipping:
        finish_batch(c)
    return 0


cdef int hand_batch(Connection c, const uint8_t* at, size_t n) except -1:
    """Let the host carry out a batch when all of it is there, and answer with what it returns."""
    cdef int progress
    c.scan.wanted = c.frame.left
    progress = pack_scan(c, at, n, 2)
    c.is_waiting = progress == INCOMPLETE
    if progress == INCOMPLETE:
        return 0
    try:
        if c.awaited is None:
            check_bars(c, WRITES)
            c.awaited = c.service.host.call(c, "hits", [(<const char*>at)[:c.scan.at]], core_of(c).now_ms)
            c.work = WORK_A_TURN
            return 0
        awaited, c.awaited = c.awaited, None
        became = awaited.result()
    except OnlineError as error:
        c.frame.is_barred = True
        c.first_error = error
    else:
        c.frame.accepted, c.frame.ignored, c.frame.refused, c.first_error = became
    return finish_batch(c)


cdef int finish_batch(Connection c) except -1:
    """Answer a batch: [accepted, ignored, refused, first error or nil]."""
    c.frames += 1
    c.service.commands += 1
    skip_begins(c)
    if is_reply_wanted(c) and c.frame.is_request:
        finish_reply(c)
    c.first_error = None
    end_frame(c)
    return 0


cdef int finish_reply(Connection c) except -1:
    """Write what became of a batch. One that was barred, if only in part, is an error: it is to be sent again."""
    if c.frame.is_barred:
        return put_error(c, c.first_error)
    begin_reply(c, False)
    return put_object(c, [c.frame.accepted, c.frame.ignored, c.frame.refused, c.first_error])


verb("HIT user url [seen_ms [kind]]", verb_hit, 2, 4, WRITES)
verb("LEAVE user [seen_ms]", verb_leave, 1, 2, WRITES)
batch_register(run_batch)
hits_register(run_hits)
