"""States as JSON, for C code that answers with them. See ext/states.pyx.

What was written stands in `at`, without the brace at its end, until the next call.
"""

from libc.stdint cimport int64_t

from online.core.core cimport Core
from online.core.index cimport Index
from online.core.skiplist cimport Name

cdef enum:
    MOST_USERS = 30                                      # in a state

cdef class States:
    cdef char* at
    cdef size_t n_bytes
    cdef size_t size

    cdef int write_count(self, int64_t people) except -1
    cdef bint write_page(self, Core* core, Name name, int64_t most, bint only_members, int64_t step_ms) except -1
    cdef int write_user(self, Core* core, Name user, int64_t step_ms) except -1
    cdef ask_page(self, Index index, bytes url, int64_t most, bint only_members, int64_t now_ms, int64_t step_ms)
    cdef put_off(self, Core* core, int asked, bytes prefix, int64_t at_ms)
    cdef done(self, int64_t at_ms)
    cdef int put(self, bytes text) except -1
    cdef int put_text(self, const char* text, size_t n_bytes) except -1
    cdef int put_int(self, int64_t number) except -1
    cdef int put_name(self, Name name) except -1
