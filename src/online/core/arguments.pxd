"""Arguments of a verb: checked and handed on in the shape that it wants. The usual shapes inline, the rest in C calls.

Functions that can fail return -1 and give their value through a pointer: Cython would ask after an exception behind
each call of a function that returns a struct.
"""

from libc.stdint cimport int64_t, uint32_t

from online.core.codec cimport NIL, NUMBER, TEXT, Arg
from online.core.resp_values cimport parse_int
from online.core.skiplist cimport Name

cdef int arg_written(Arg* arg, str what, Name* text) except -1
cdef int arg_no_number(Arg* arg, str what, int64_t low, int64_t high) except -1
cdef int arg_bad_name(str what, Name name, uint32_t most) except -1
cdef int arg_out_of_range(str what, int64_t value, int64_t low, int64_t high) except -1
cdef int arg_kind(Arg* arg) except -1
cdef bytes kind_name(int kind)

cdef inline bint is_given(const Arg* args, int64_t n_args, int64_t i) noexcept nogil:
    """Whether the argument at `i` is there: neither left out, nor nil, nor empty."""
    return i < n_args and args[i].type != NIL and not (args[i].type == TEXT and args[i].text.n_bytes == 0)

cdef inline int arg_text(Arg* arg, str what, Name* text) except -1:
    """Read an argument as text; a number is written out. `what` is its name, for the error."""
    if arg.type == TEXT:
        text[0] = arg.text
        return 0
    return arg_written(arg, what, text)

cdef inline int arg_name(Arg* arg, str what, uint32_t most, bint may_be_empty, Name* name) except -1:
    """Read a user, url or prefix given in a question."""
    arg_text(arg, what, name)
    if name.n_bytes > most or not (name.n_bytes or may_be_empty):
        return arg_bad_name(what, name[0], most)
    return 0

cdef inline int arg_number(Arg* arg, str what, int64_t low, int64_t high, int64_t* value) except -1:
    """Read a number of 64 bits; `low` and `high`, which are not judged here, are for the error of a longer one."""
    if arg.type == NUMBER:
        value[0] = arg.number
        return 0
    if arg.type == TEXT and parse_int(arg.text, value):
        return 0
    return arg_no_number(arg, what, low, high)

cdef inline int arg_within(Arg* arg, str what, int64_t low, int64_t high, int64_t* value) except -1:
    """Read a number from `low` to `high`."""
    arg_number(arg, what, low, high, value)
    if not low <= value[0] <= high:
        return arg_out_of_range(what, value[0], low, high)
    return 0
