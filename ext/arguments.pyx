"""Arguments of a verb that are not of the usual shape, and the errors of those that are wrong. See arguments.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from online import errors
from online.terms import KINDS

from online.core.codec cimport HUGE_NUMBER, NIL, NUMBER, OTHER, Arg
from online.core.index cimport bytes_from
from online.core.skiplist cimport DEPARTED, Name

cdef tuple KIND_NAMES = tuple(kind.encode() for kind in KINDS)


cdef bytes kind_name(int kind):
    """Return how a kind is called on the wire."""
    return KIND_NAMES[kind]


cdef int arg_written(Arg* arg, str what, Name* text) except -1:
    """`arg_text` of what is not text."""
    cdef bytes digits
    if arg.type == NUMBER or arg.type == HUGE_NUMBER:
        digits = b"%d" % (arg.number if arg.type == NUMBER else <uint64_t>arg.number)
        memcpy(arg.digits, <const char*>digits, len(digits))
        arg.text.at = arg.digits
        arg.text.n_bytes = <uint32_t>len(digits)
    elif arg.type == NIL:
        arg.text.at = ""
        arg.text.n_bytes = 0
    elif arg.type == OTHER:
        raise errors.not_text(what)
    text[0] = arg.text
    return 0


cdef int arg_no_number(Arg* arg, str what, int64_t low, int64_t high) except -1:
    """Raise what is wrong with an argument that is no number of 64 bits."""
    cdef Name name
    if arg.type == OTHER:
        raise errors.not_text(what)
    arg_written(arg, what, &name)
    text = bytes_from(name)
    if len(text) <= errors.SHOWN_BYTES and text.removeprefix(b"-").isdigit():
        raise errors.bad_number(what, int(text), low, high)
    raise errors.not_a_number(what, text)


cdef int arg_bad_name(str what, Name name, uint32_t most) except -1:
    raise errors.bad_name(what, bytes_from(name), most)


cdef int arg_out_of_range(str what, int64_t value, int64_t low, int64_t high) except -1:
    raise errors.bad_number(what, value, low, high)


cdef int arg_kind(Arg* arg) except -1:
    """Read a kind; return its number."""
    cdef Name text
    cdef int kind
    cdef bytes name
    arg_written(arg, "kind", &text)
    for kind in range(<int>DEPARTED):
        name = KIND_NAMES[kind]
        if text.n_bytes == len(name) and memcmp(text.at, <const char*>name, text.n_bytes) == 0:
            return kind
    raise errors.bad_kind(bytes_from(text))
