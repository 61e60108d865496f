"""RESP, for C code that takes several commands at once. See ext/resp.pyx."""

from online.core.connection cimport Connection

# Carries out and answers the HITs at the beginning of so many bytes of input; returns how many, perhaps none.
ctypedef int (*hits_call_t)(Connection, const char*, size_t) except -1

cdef int hits_register(hits_call_t hits) except -1
