"""The verb table, for C code that adds verbs or answers them. See ext/verbs.pyx."""

from libc.stdint cimport int64_t

from online.core.codec cimport Arg
from online.core.connection cimport Connection
from online.core.skiplist cimport Name

ctypedef int (*verb_t)(Connection, Arg*, int64_t) except -1

cdef enum:
    ANY = -1                                             # number of arguments

cdef int verb(str usage, verb_t run, int64_t fewest, int64_t most, bint before_auth=*) except -1
cdef int answer(Connection c, Name name, Arg* args, int64_t n_args, bint wants_reply) except -1
cdef void skip_begins(Connection c) noexcept
cdef bint is_reply_wanted(Connection c) noexcept
