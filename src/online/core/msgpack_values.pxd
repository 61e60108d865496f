"""Values of MessagePack <-> bytes: integers, text, and heads of arrays and maps. Inline C.

Its job: one value. Not its job: messages (msgpack), limits, and which reply is written (connection).

Everything is inline: the compiler then folds a head and its text into one write. As functions of a module of their
own, called through pointers, they made RESP 5 to 8 % slower; inline they made MessagePack 6 to 16 % faster than
one file did (docs/performance.md).

Writers return the number of bytes written, and write no more than they say; small integers and heads have the compact
forms. Readers return a `Progress`.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from online.core.codec cimport (
    BROKEN, COMPLETE, HUGE_NUMBER, INCOMPLETE, NIL, NUMBER, OTHER, TEXT, Arg, copy_text,
)
from online.core.skiplist cimport Name

cdef enum TokenType:
    SCALAR
    ARRAY
    MAP

cdef struct Token:
    TokenType type
    Arg arg                                              # of a scalar
    int64_t n                                            # items of an array, pairs of a map
    size_t size                                          # head, and body of text

# Writing

cdef inline size_t big_endian(char* out, uint8_t head, uint64_t value, int n_bytes) noexcept nogil:
    cdef int i
    out[0] = <char>head
    for i in range(n_bytes):
        out[1 + i] = <char>(value >> (8 * (n_bytes - 1 - i)))
    return 1 + n_bytes

cdef inline size_t pack_int(char* out, int64_t value) noexcept nogil:
    """Write a MessagePack integer, at most 9 bytes."""
    if value >= 0:
        if value < 128:
            out[0] = <char>value
            return 1
        if value < 1 << 8:
            return big_endian(out, 0xCC, <uint64_t>value, 1)
        if value < 1 << 16:
            return big_endian(out, 0xCD, <uint64_t>value, 2)
        if value < <int64_t>1 << 32:
            return big_endian(out, 0xCE, <uint64_t>value, 4)
        return big_endian(out, 0xCF, <uint64_t>value, 8)
    if value >= -32:
        out[0] = <char>value
        return 1
    return big_endian(out, 0xD3, <uint64_t>value, 8)

cdef inline size_t pack_head(
        char* out, uint64_t n, uint8_t fix, uint64_t fix_below, uint8_t head8, uint8_t head16) noexcept nogil:
    """Write the head of text, array or map; `head8` 0 where there is no form of 8 bits. At most 5 bytes."""
    if n < fix_below:
        out[0] = <char>(fix | n)
        return 1
    if head8 and n < 1 << 8:
        return big_endian(out, head8, n, 1)
    if n < 1 << 16:
        return big_endian(out, head16, n, 2)
    return big_endian(out, head16 + 1, n, 4)

cdef inline size_t pack_array(char* out, uint64_t n) noexcept nogil:
    return pack_head(out, n, 0x90, 16, 0, 0xDC)

cdef inline bint is_ascii(Name text) noexcept nogil:
    """Whether text is ASCII, as nearly all is. O(n), eight bytes at a time."""
    cdef uint64_t eight, bits = 0
    cdef uint32_t i = 0
    while i + 8 <= text.n_bytes:
        memcpy(&eight, text.at + i, 8)
        bits |= eight
        i += 8
    while i < text.n_bytes:
        bits |= <uint8_t>text.at[i]
        i += 1
    return (bits & <uint64_t>0x8080808080808080) == 0

cdef inline bint is_utf8(Name text) noexcept nogil:
    """Whether text is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. O(n)."""
    cdef const uint8_t* at = <const uint8_t*>text.at
    cdef const uint8_t* end = at + text.n_bytes
    cdef uint8_t low, high
    cdef int following
    if is_ascii(text):
        return True
    while at < end:
        if at[0] < 0x80:
            at += 1
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= at[0] <= 0xDF:
            following = 1
        elif 0xE0 <= at[0] <= 0xEF:
            following = 2
            if at[0] == 0xE0:
                low = 0xA0
            elif at[0] == 0xED:
                high = 0x9F
        elif 0xF0 <= at[0] <= 0xF4:
            following = 3
            if at[0] == 0xF0:
                low = 0x90
            elif at[0] == 0xF4:
                high = 0x8F
        else:
            return False
        at += 1
        while following:
            if at == end or not low <= at[0] <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
            following -= 1
    return True

cdef inline size_t pack_text(char* out, Name text) noexcept nogil:
    """Write text as `str` if it is UTF-8, else as `bin`; at most 5 bytes more than it has."""
    cdef size_t n
    if is_utf8(text):
        n = pack_head(out, text.n_bytes, 0xA0, 32, 0xD9, 0xDA)
    else:
        n = pack_head(out, text.n_bytes, 0, 0, 0xC4, 0xC5)
    copy_text(out + n, text)
    return n + text.n_bytes

# Reading

cdef inline uint64_t read_big_endian(const uint8_t* at, int n_bytes) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(n_bytes):
        value = value << 8 | at[i]
    return value

cdef inline int token_other(Token* token, size_t size) noexcept nogil:
    token.arg.type = OTHER
    token.size = size
    return COMPLETE

cdef inline int token_text(Token* token, const uint8_t* at, size_t n, int n_length, uint64_t length) noexcept nogil:
    """A token whose length follows its first byte in `n_length` bytes, or is `length`."""
    if n_length:
        if n < <size_t>(1 + n_length):
            return INCOMPLETE
        length = read_big_endian(at + 1, n_length)
    token.arg.type = TEXT
    token.arg.text.at = <const char*>at + 1 + n_length
    token.arg.text.n_bytes = <uint32_t>length
    token.size = 1 + n_length + length
    return COMPLETE

cdef inline int token_number(Token* token, const uint8_t* at, size_t n, int n_bytes, bint is_signed) noexcept nogil:
    cdef uint64_t value
    if n < <size_t>(1 + n_bytes):
        return INCOMPLETE
    value = read_big_endian(at + 1, n_bytes)
    token.arg.type = NUMBER
    token.size = 1 + n_bytes
    if is_signed:
        value <<= 64 - 8 * n_bytes
        token.arg.number = <int64_t>value >> (64 - 8 * n_bytes)
    else:
        token.arg.number = <int64_t>value
        if value > <uint64_t>INT64_MAX:
            token.arg.type = HUGE_NUMBER
    return COMPLETE

cdef inline int token_container(Token* token, const uint8_t* at, size_t n, int n_length, TokenType type) noexcept nogil:
    if n < <size_t>(1 + n_length):
        return INCOMPLETE
    token.type = type
    token.n = <int64_t>read_big_endian(at + 1, n_length)
    token.size = 1 + n_length
    return COMPLETE

cdef inline int read_token(Token* token, const uint8_t* at, size_t n) noexcept nogil:
    """Read the token at `at`; returns a Progress. COMPLETE means its head: the body may still be to come."""
    cdef uint8_t head
    if n == 0:
        return INCOMPLETE
    head = at[0]
    token.type = SCALAR
    if head < 0x80 or head >= 0xE0:
        token.arg.type = NUMBER
        token.arg.number = <int64_t>head if head < 0x80 else <int64_t>head - 256
        token.size = 1
        return COMPLETE
    if head < 0xA0:
        token.type = MAP if head < 0x90 else ARRAY
        token.n = head & 15
        token.size = 1
        return COMPLETE
    if head < 0xC0:
        return token_text(token, at, n, 0, head & 31)
    if head == 0xC0:
        token.arg.type = NIL
        token.size = 1
        return COMPLETE
    if head == 0xC1:
        return BROKEN
    if head <= 0xC3:
        return token_other(token, 1)
    if head <= 0xC6:
        return token_text(token, at, n, 1 << (head - 0xC4), 0)
    if head <= 0xC9:
        token.arg.type = OTHER
        if token_text(token, at, n, 1 << (head - 0xC7), 0) == INCOMPLETE:
            return INCOMPLETE
        return token_other(token, token.size + 1)
    if head <= 0xCB:
        return token_other(token, 5 if head == 0xCA else 9)
    if head <= 0xCF:
        return token_number(token, at, n, 1 << (head - 0xCC), False)
    if head <= 0xD3:
        return token_number(token, at, n, 1 << (head - 0xD0), True)
    if head <= 0xD8:
        return token_other(token, 2 + (1 << (head - 0xD4)))
    if head <= 0xDB:
        return token_text(token, at, n, 1 << (head - 0xD9), 0)
    if head <= 0xDD:
        return token_container(token, at, n, 2 if head == 0xDC else 4, ARRAY)
    return token_container(token, at, n, 2 if head == 0xDE else 4, MAP)
