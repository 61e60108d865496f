"""Values of RESP <-> bytes: lines, integers and bulk strings. Inline C.

Its job: one value. Not its job: commands (resp), and which reply is written (connection).

Everything is inline: the compiler then folds a head and its text into one write. As functions of a module of their
own, called through pointers, they made RESP 5 to 8 % slower; inline they made MessagePack 6 to 16 % faster than
one file did (docs/performance.md).

Writers return the number of bytes written.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from online.core.codec cimport copy_text
from online.core.skiplist cimport Name

cdef extern from *:
    """
    /* 00 01 ... 99: a number is written two digits at a time. */
    static const char ONLINE_PAIRS[] =
        "00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839"
        "40414243444546474849" "50515253545556575859" "60616263646566676869" "70717273747576777879"
        "80818283848586878889" "90919293949596979899";

    static const uint64_t ONLINE_POWERS[] = {
        1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull,
        10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull,
        1000000000000000ull, 10000000000000000ull, 100000000000000000ull, 1000000000000000000ull,
        10000000000000000000ull,
    };

    /* How many digits a number above 0 has: its bits times log10(2), which may be one too many. */
    static inline int online_digits(uint64_t value) {
        int most = (64 - __builtin_clzll(value)) * 1233 >> 12;
        return most + (value >= ONLINE_POWERS[most]);
    }

    /* Eight digits of a number below 10^8, side by side: halves, then pairs, then digits. Exact for all of them. */
    static inline void online_eight(char* out, uint32_t value) {
        uint64_t halves = value / 10000 | (uint64_t)(value % 10000) << 32;
        uint64_t hundreds = halves * 10486 >> 20 & 0x0000007F0000007Full;
        uint64_t pairs = hundreds | (halves - 100 * hundreds) << 16;
        uint64_t tens = pairs * 103 >> 10 & 0x000F000F000F000Full;
        uint64_t digits = (tens | (pairs - 10 * tens) << 8) + 0x3030303030303030ull;
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        digits = __builtin_bswap64(digits);
    #endif
        memcpy(out, &digits, 8);
    }

    /* Write a number of any size with its digits, 0 to 20 of them, in front of `end`; 24 bytes there are written to. */
    static inline void online_all_digits(char* end, uint64_t value) {
        online_eight(end - 8, value % 100000000);
        value /= 100000000;
        online_eight(end - 16, value % 100000000);
        online_eight(end - 24, (uint32_t)(value / 100000000));
    }
    """
    const char[200] ONLINE_PAIRS
    int online_digits(uint64_t value) nogil
    void online_all_digits(char* end, uint64_t value) nogil

cdef enum:
    MOST_LINE_BYTES = 28                                 # room for what resp_line writes, the copy beyond its end too

cdef inline size_t resp_line(char* out, char head, int64_t value) noexcept nogil:
    """Write a RESP head, a number and CR LF: at most 23 bytes, where there is room for MOST_LINE_BYTES."""
    cdef char digits[24 + 24]
    cdef size_t size = 1, n
    cdef uint64_t left = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    out[0] = head
    if value < 0:
        out[size] = c'-'
        size += 1
    if left < 10:
        out[size] = <char>(c'0' + left)
        n = 1
    elif left < 100:
        memcpy(out + size, &ONLINE_PAIRS[2 * left], 2)
        n = 2
    else:
        n = <size_t>online_digits(left)
        online_all_digits(digits + 24, left)
        memcpy(out + size, digits + 24 - n, 24)          # of one size, which needs no call
    size += n
    out[size], out[size + 1] = c'\r', c'\n'
    return size + 2

cdef inline size_t resp_text(char* out, Name text) noexcept nogil:
    """Write a RESP bulk string, at most 25 bytes more than the text has, and there is room for 28 more."""
    cdef size_t n = resp_line(out, c'$', text.n_bytes)
    copy_text(out + n, text)
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
