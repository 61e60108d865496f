"""Values of RESP <-> bytes: lines, integers and bulk strings. Inline C.

Its job: one value. Not its job: commands (resp), and which reply is written (connection).

Everything is inline: the compiler then folds a head and its text into one write. As functions of a module of their
own, called through pointers, they made RESP 5 to 8 % slower; inline they made MessagePack 6 to 16 % faster than
one file did (docs/performance.md).

Writers return the number of bytes written, and write no more than they say.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from online.core.skiplist cimport Name

cdef extern from *:
    """
    /* 00 01 ... 99: a number is written two digits at a time. */
    static const char ONLINE_PAIRS[] =
        "00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839"
        "40414243444546474849" "50515253545556575859" "60616263646566676869" "70717273747576777879"
        "80818283848586878889" "90919293949596979899";
    """
    const char[200] ONLINE_PAIRS

cdef inline size_t resp_line(char* out, char head, int64_t value) noexcept nogil:
    """Write a RESP head, a number and CR LF; at most 23 bytes."""
    cdef char digits[20]
    cdef int begin = 20
    cdef size_t size = 1
    cdef uint64_t left = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    out[0] = head
    if value < 0:
        out[size] = c'-'
        size += 1
    while left >= 10:
        begin -= 2
        memcpy(digits + begin, &ONLINE_PAIRS[2 * (left % 100)], 2)
        left //= 100
    if left or begin == 20:
        begin -= 1
        digits[begin] = <char>(c'0' + left)
    memcpy(out + size, digits + begin, 20 - begin)
    size += 20 - begin
    out[size], out[size + 1] = c'\r', c'\n'
    return size + 2

cdef inline size_t resp_text(char* out, Name text) noexcept nogil:
    """Write a RESP bulk string, at most 25 bytes more than the text has."""
    cdef size_t n = resp_line(out, c'$', text.n_bytes)
    memcpy(out + n, text.at, text.n_bytes)
    n += text.n_bytes
    out[n], out[n + 1] = c'\r', c'\n'
    return n + 2

cdef inline bint parse_int(Name text, int64_t* value) noexcept nogil:
    """Read a decimal integer of 64 bits, nothing around it."""
    cdef uint32_t i = 0
    cdef uint64_t magnitude = 0
    cdef bint is_negative = text.n_bytes > 0 and text.at[0] == c'-'
    if is_negative:
        i = 1
    if not 0 < text.n_bytes - i <= 19:
        return False
    while i < text.n_bytes:
        if not c'0' <= text.at[i] <= c'9':
            return False
        magnitude = magnitude * 10 + <uint64_t>(text.at[i] - c'0')
        i += 1
    if magnitude > <uint64_t>INT64_MAX:
        return False
    value[0] = -<int64_t>magnitude if is_negative else <int64_t>magnitude
    return True
