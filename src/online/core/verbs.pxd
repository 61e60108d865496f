"""The verb table, for C code that adds verbs or answers them. See ext/verbs.pyx."""

from libc.stdint cimport int64_t

from online.core.codec cimport Arg
from online.core.connection cimport Connection
from online.core.skiplist cimport Name

ctypedef int (*verb_t)(Connection, Arg*, int64_t) except -1

ctypedef int (*verb_call_t)(Connection, Name, Arg*, int64_t) except -1

cdef enum:
    ANY = -1                                             # number of arguments
    VERB_BYTES = 16                                      # longer than every verb
    LATER = 1                                            # a verb's result: nothing is said yet, it is to be asked again
    MORE = 2                                             # what is said yet is right, and it is to be asked for the rest
    BEFORE_AUTH = 1                                      # may come before the token
    AT_ONCE = 2                                          # is carried out also inside of MULTI
    WHILE_LOADING = 4                                    # needs nothing that is still being read from disk
    WRITES = 8                                           # is not carried out where hits are refused
    WHILE_SUBSCRIBED = 16                                # may come between messages of channels in RESP2, too
    ASKS = 32                                            # is answered from the index, and by nobody who keeps none

cdef struct Verb:
    char name[VERB_BYTES]                                # upper case, NULs behind it
    verb_t run                                           # NULL: handed to the host
    int64_t fewest
    int64_t most
    int flags

cdef int verb(str usage, verb_t run, int64_t fewest, int64_t most, int flags=*) except -1
cdef int queue_register(verb_call_t queue) except -1
cdef const Verb* check_verb(Connection c, Name name, int64_t n_args) except NULL
cdef int check_bars(Connection c, int flags) except -1
cdef int run_verb(Connection c, Name name, Arg* args, int64_t n_args) except -1
cdef int answer(Connection c, Name name, Arg* args, int64_t n_args, bint wants_reply) except -1
cdef void skip_begins(Connection c) noexcept
cdef bint is_reply_wanted(Connection c) noexcept
