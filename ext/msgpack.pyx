"""MessagePack-RPC: [0, msgid, method, params] and [2, method, params], to arguments.

Its job: to read the head of a message, then its params, and have it answered; or to hand the hits of a batch over as
they come (hits). Not its job: what a method means (verbs), how values are written (codec, msgpack_values).

Invariants:
1. Input before `scan.at`, counted from the frame's start, has been found well formed and is not looked at again until
   the frame is complete. So input that comes a byte at a time costs O(1) a byte.
2. Every length is checked against its limit before anything is allocated for it.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from online.errors import FramingError

from online.core.codec cimport BROKEN, COMPLETE, HUGE_NUMBER, INCOMPLETE, NUMBER, OTHER, TEXT, buffer_used
from online.core.msgpack_values cimport ARRAY, SCALAR, Token, read_token
from online.core.connection cimport (
    MSGPACK, TALLEST_HEAD, Connection, Frame, Scan, dialect_register, frame_limit, scan_anew,
)
from online.core.skiplist cimport Name
from online.core.verbs cimport LATER, answer

cdef batch_t RUN_BATCH = NULL


cdef int batch_register(batch_t run) except -1:
    """Let `run` take the hits of batches."""
    global RUN_BATCH
    RUN_BATCH = run
    return 0


cdef int judge_token(Connection c, const Token* token, int progress, size_t used, int depth) except -1:
    """`check_token` of a token that is not plainly right."""
    if progress == BROKEN:
        raise FramingError("0xc1 begins no MessagePack value")
    if progress == INCOMPLETE:
        return 0
    if token.type != SCALAR:
        if token.n > c.service.max_items:
            raise FramingError(f"an array has {token.n} items, at most {c.service.max_items} are taken")
        if depth >= c.service.max_depth:
            raise FramingError(f"arrays are nested more than {c.service.max_depth} deep")
    if used + token.size > frame_limit(c):
        raise FramingError(f"a message has more than {frame_limit(c)} bytes, "
                           f"with a value of {token.size} bytes at {used}")
    return 0


cdef int pack_scan(Connection c, const uint8_t* at, size_t n, int depth) except -2:
    """Scan values until `scan.wanted` are complete, the first ones as arguments; returns a Progress.

    `depth`: arrays around the values.
    """
    cdef Scan* scan = &c.scan
    cdef Token token
    cdef int progress
    while scan.n_args < scan.wanted or scan.depth:
        progress = read_token(&token, at + scan.at, n - scan.at)
        check_token(c, &token, progress, c.frame.size + scan.at, depth + scan.depth)
        if progress == INCOMPLETE or scan.at + token.size > n:
            return INCOMPLETE
        scan.at += token.size
        if scan.depth:
            scan.left[scan.depth - 1] -= 1
        else:
            c.service.args[scan.n_args] = token.arg
            if token.type != SCALAR:
                c.service.args[scan.n_args].type = OTHER
            scan.n_args += 1
        if token.type != SCALAR and token.n:
            scan.left[scan.depth] = token.n if token.type == ARRAY else 2 * token.n
            scan.depth += 1
        while scan.depth and scan.left[scan.depth - 1] == 0:
            scan.depth -= 1
    return COMPLETE


cdef int pack_head_field(Connection c, Token* token, const uint8_t* at, size_t n, size_t* size) except -2:
    """Read one more value of a frame's head, at `size`, which follows; returns a Progress."""
    cdef int progress = read_token(token, at + size[0], n - size[0])
    check_token(c, token, progress, size[0], 0)
    if progress == INCOMPLETE:
        return INCOMPLETE
    # A verb that is too long for the head is refused whole: no verb comes near it.
    if token.size > TALLEST_HEAD - 32:
        raise FramingError(f"the head of a message has a value of {token.size} bytes")
    size[0] += token.size
    return COMPLETE if size[0] <= n else INCOMPLETE


cdef bint same_word(const Token* token, bytes lower) noexcept:
    """Whether text is this lower-case word, in either case."""
    cdef const char* word = lower
    cdef uint32_t i
    if token.arg.type != TEXT or token.arg.text.n_bytes != <uint32_t>len(lower):
        return False
    for i in range(token.arg.text.n_bytes):
        if token.arg.text.at[i] | 32 != word[i]:
            return False
    return True


cdef int begin_frame(Connection c, const uint8_t* at, size_t n) except -2:
    """Read a frame's head, up to the number of its params; returns a Progress."""
    cdef Frame* frame = &c.frame
    cdef Token token
    cdef size_t size = 0, msgid_at
    cdef bint is_request
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != ARRAY or not 3 <= token.n <= 4:
        raise FramingError("a message is an array: [0, msgid, method, params] or [2, method, params]")
    is_request = token.n == 4
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != SCALAR or token.arg.type != NUMBER or token.arg.number != (0 if is_request else 2):
        raise FramingError("a message begins with 0 (a request, of 4 items) or 2 (a notification, of 3)")
    frame.is_request = is_request
    frame.msgid_bytes = 0
    if is_request:
        msgid_at = size
        if pack_head_field(c, &token, at, n, &size) != COMPLETE:
            return INCOMPLETE
        if token.type != SCALAR or token.arg.type not in (NUMBER, HUGE_NUMBER):
            raise FramingError("a msgid is a whole number")
        frame.msgid_bytes = <int>(size - msgid_at)
        memcpy(frame.msgid, at + msgid_at, frame.msgid_bytes)
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != SCALAR or token.arg.type != TEXT:
        raise FramingError("a method is text")
    frame.is_batch = c.authenticated and c.transaction is None and same_word(&token, b"hits")
    frame.verb_bytes = min(<int>token.arg.text.n_bytes, <int>sizeof(frame.verb))
    memcpy(frame.verb, token.arg.text.at, frame.verb_bytes)
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != ARRAY:
        raise FramingError("params are an array")
    frame.is_begun = True
    frame.size = size
    frame.left = token.n
    frame.n_taken = frame.accepted = frame.ignored = frame.refused = 0
    frame.is_skipping = frame.is_barred = False
    c.first_error = None
    c.input.start += size
    scan_anew(c)
    c.scan.wanted = 1 if frame.is_batch else token.n
    return COMPLETE


cdef int run_pack(Connection c) except -1:
    """Take one step in a MessagePack frame: its head, its whole, or as many hits of a batch as there are."""
    cdef const uint8_t* at = <const uint8_t*>c.input.at + c.input.start
    cdef size_t n = buffer_used(&c.input)
    cdef bint is_resumed = c.scan.n_args > 0
    cdef int progress
    cdef Name name
    if not c.frame.is_begun:
        progress = begin_frame(c, at, n)
        c.is_waiting = progress == INCOMPLETE
        return 0
    if c.frame.is_batch:
        return RUN_BATCH(c, at, n)
    progress = pack_scan(c, at, n, 2)
    c.is_waiting = progress == INCOMPLETE
    if progress == INCOMPLETE:
        return 0
    if is_resumed:  # service.args has been anybody's meanwhile, and the input may have moved
        c.scan.at = c.scan.n_args = 0
        pack_scan(c, at, n, 2)
    name.at = c.frame.verb
    name.n_bytes = c.frame.verb_bytes
    if answer(c, name, c.service.args, c.scan.n_args, c.frame.is_request) == LATER:
        c.scan.at = c.scan.n_args = 0
        return 0
    end_frame(c)
    return 0


cdef void end_frame(Connection c) noexcept:
    c.input.start += c.scan.at
    c.frame.is_begun = False
    c.frame.msgid_bytes = 0
    scan_anew(c)


dialect_register(MSGPACK, run_pack)
