"""MessagePack frames, for C code that reads what follows a head. See ext/msgpack.pyx."""

from libc.stdint cimport uint8_t

from online.core.codec cimport COMPLETE
from online.core.msgpack_values cimport SCALAR, Token
from online.core.connection cimport Connection, frame_limit

ctypedef int (*batch_t)(Connection, const uint8_t*, size_t) except -1

cdef int batch_register(batch_t run) except -1
cdef int judge_token(Connection c, const Token* token, int progress, size_t used, int depth) except -1
cdef int pack_scan(Connection c, const uint8_t* at, size_t n, int depth) except -2
cdef void end_frame(Connection c) noexcept

cdef inline int check_token(Connection c, const Token* token, int progress, size_t used, int depth) except -1:
    """Check a token that begins `used` bytes into its frame, inside `depth` arrays, against the limits."""
    if progress == COMPLETE and token.type == SCALAR and used + token.size <= frame_limit(c):
        return 0
    return judge_token(c, token, progress, used, depth)
