"""The fields of a usual line of an access log, and what reading them takes. See ext/logfields.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from online.core.skiplist cimport Name

cdef struct Fields:
    # As a Record of online.logs has them: they stand in the line. What a line does not have is empty.
    int64_t seen_ms
    Name address
    Name user
    Name method
    Name url
    Name status
    Name agent
    Name host
    Name visitor
    Name forwarded
    Name referrer
    Name kind

cdef enum HostShape:
    NO_HOST
    WITH_HOST                                            # `vhost`: the name of the virtual host comes first
    PERHAPS_HOST                                         # a line that is none without a host may be one with

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #define STRIDE 16

    /* Mark the bytes that are not plain, a bit each. As a signed byte, what is not ASCII is below every limit. */
    static inline unsigned odd_bytes(const uint8_t* at, uint8_t least) {
        __m128i bytes = _mm_loadu_si128((const __m128i*)at);
        __m128i odd = _mm_cmplt_epi8(bytes, _mm_set1_epi8((char)least));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\\\')));
        return (unsigned)_mm_movemask_epi8(odd);
    }
    static inline int first_byte(unsigned mask) { return __builtin_ctz(mask); }
    #else
    #define STRIDE 8
    #define ONES 0x0101010101010101ull
    #define TOPS 0x8080808080808080ull
    #define BELOW(word, limit) (~(((word) | TOPS) - (limit) * ONES) & ~(word) & TOPS)

    /* Mark the bytes that are not plain by their top bits. Exact: no byte borrows from its neighbour. */
    static inline uint64_t odd_bytes(const uint8_t* at, uint8_t least) {
        uint64_t word;
        memcpy(&word, at, 8);
        return (word & TOPS) | BELOW(word, least) | BELOW(word ^ '"' * ONES, 1) | BELOW(word ^ '\\\\' * ONES, 1);
    }
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    static inline int first_byte(uint64_t mask) { return __builtin_clzll(mask) >> 3; }
    #else
    static inline int first_byte(uint64_t mask) { return __builtin_ctzll(mask) >> 3; }
    #endif
    #endif
    """
    enum: STRIDE
    uint64_t odd_bytes(const uint8_t* at, uint8_t least) nogil
    int first_byte(uint64_t mask) nogil

cdef inline const uint8_t* plain_end(const uint8_t* at, const uint8_t* end, uint8_t least) noexcept nogil:
    """Return where a run of plain bytes ends: ASCII from `least` up, without `"` and the backslash. O(length)."""
    cdef uint64_t odd
    while end - at >= STRIDE:
        odd = odd_bytes(at, least)
        if odd:
            return at + first_byte(odd)
        at += STRIDE
    while at < end and least <= at[0] < 128 and at[0] != c'"' and at[0] != c'\\':
        at += 1
    return at

cdef inline Name between(const uint8_t* begin, const uint8_t* end) noexcept nogil:
    cdef Name name
    name.at = <const char*>begin
    name.n_bytes = <uint32_t>(end - begin)
    return name

cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return <uint8_t>(byte - c'0') < 10

cdef inline int two_digits(const uint8_t* at) noexcept nogil:
    """Read two digits; negative, far below what a sum could mend, if they are not."""
    return 10 * (at[0] - c'0') + at[1] - c'0' if is_digit(at[0]) and is_digit(at[1]) else -1_000_000

cdef int64_t clf_time(const uint8_t* at) noexcept nogil
cdef int64_t seconds_of(int year, int month, int day, int hour, int minute, int second, int zone_min) noexcept nogil
cdef bint read_usual(const uint8_t* at, const uint8_t* end, HostShape shape, Fields* fields) noexcept nogil
cdef bint read_request(const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil
cdef const uint8_t* usual_header(const uint8_t* at, const uint8_t* end) noexcept nogil
