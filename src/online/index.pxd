"""The Python surface of an index, for C code that needs its core."""

from online.arena cimport Purse
from online.core cimport Core

cdef class Budget:
    cdef Purse purse

cdef class Index:
    cdef Core core
    cdef Budget budget
