"""Names of guests and bots from addresses and agents, without an object. Contracts stand in guests.pyi.

Its job: to say at once what `online_client.guests` and `online_client.addresses` say of what is usual, to the byte.
Not its job: who is a guest or a bot, and addresses with a port, a zone, brackets or IPv4 inside: those take the careful
way.

The hash is SHA-256, by the processor's own instructions where it has them (x86: SHA).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from online.core.index cimport name_from
from online.core.skiplist cimport Name

cdef enum:
    BLOCK_BYTES = 64
    DIGEST_BYTES = 32
    MOST_AGENT_BYTES = 512                               # online_client.agents.MAX_CHARACTERS
    GROUPS = 8                                           # of 16 bits, in an address of IPv6

cdef extern from *:
    """
    #include <string.h>

    static const uint32_t sha_begin[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    static const uint32_t sha_table[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    };
    #define ROTATED(word, n) ((word) >> (n) | (word) << (32 - (n)))

    /* FIPS 180-4: take whole blocks of 64 bytes into a hash. */
    static void sha_in_c(uint32_t* hash, const uint8_t* at, size_t n_blocks) {
        for (; n_blocks; n_blocks--, at += 64) {
            uint32_t w[64], s[8];
            for (int i = 0; i < 16; i++)
                w[i] = (uint32_t)at[4 * i] << 24 | (uint32_t)at[4 * i + 1] << 16 | at[4 * i + 2] << 8 | at[4 * i + 3];
            for (int i = 16; i < 64; i++)
                w[i] = w[i - 16] + (ROTATED(w[i - 15], 7) ^ ROTATED(w[i - 15], 18) ^ w[i - 15] >> 3)
                    + w[i - 7] + (ROTATED(w[i - 2], 17) ^ ROTATED(w[i - 2], 19) ^ w[i - 2] >> 10);
            memcpy(s, hash, sizeof(s));
            for (int i = 0; i < 64; i++) {
                uint32_t one = s[7] + (ROTATED(s[4], 6) ^ ROTATED(s[4], 11) ^ ROTATED(s[4], 25))
                    + ((s[4] & s[5]) ^ (~s[4] & s[6])) + sha_table[i] + w[i];
                uint32_t two = (ROTATED(s[0], 2) ^ ROTATED(s[0], 13) ^ ROTATED(s[0], 22))
                    + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
                s[7] = s[6]; s[6] = s[5]; s[5] = s[4]; s[4] = s[3] + one;
                s[3] = s[2]; s[2] = s[1]; s[1] = s[0]; s[0] = one + two;
            }
            for (int i = 0; i < 8; i++) hash[i] += s[i];
        }
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <cpuid.h>
    #include <immintrin.h>

    __attribute__((target("sha,sse4.1")))
    static void sha_by_processor(uint32_t* hash, const uint8_t* at, size_t n_blocks) {
        const __m128i swapped = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
        /* The instructions hold the eight words as ABEF and CDGH. */
        __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)hash), 0xB1);
        __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)(hash + 4)), 0x1B);
        __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
        for (; n_blocks; n_blocks--, at += 64) {
            const __m128i abef_before = abef, cdgh_before = cdgh;
            __m128i w[4];
            for (int i = 0; i < 16; i++) {
                __m128i now, sum;
                if (i < 4)
                    now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)(at + 16 * i)), swapped);
                else {
                    now = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
                        _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
                    now = _mm_sha256msg2_epu32(now, w[(i + 3) & 3]);
                }
                w[i & 3] = now;
                sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i*)(sha_table + 4 * i)));
                cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
                abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
            }
            abef = _mm_add_epi32(abef, abef_before);
            cdgh = _mm_add_epi32(cdgh, cdgh_before);
        }
        const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
        _mm_storeu_si128((__m128i*)hash, _mm_blend_epi16(feba, dchg, 0xF0));
        _mm_storeu_si128((__m128i*)(hash + 4), _mm_alignr_epi8(dchg, feba, 8));
    }

    static int has_sha(void) {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 19) || !(c & 1u << 9)) return 0;    /* SSE 4.1, SSSE3 */
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
    }
    #define SHA_BEST (has_sha() ? sha_by_processor : sha_in_c)
    #else
    #define SHA_BEST sha_in_c
    #endif

    typedef void (*sha_t)(uint32_t* hash, const uint8_t* at, size_t n_blocks);
    """
    ctypedef void (*sha_t)(uint32_t* hash, const uint8_t* at, size_t n_blocks) noexcept nogil
    sha_t SHA_BEST
    const uint32_t[8] sha_begin
    void sha_in_c(uint32_t* hash, const uint8_t* at, size_t n_blocks) noexcept nogil

cdef sha_t BEST = SHA_BEST
cdef const char* HEX = b"0123456789abcdef"


# SHA-256

cdef void sha_end(sha_t sha, uint32_t* hash, const uint8_t* at, size_t n, size_t n_before) noexcept nogil:
    """Take the rest of a text into a hash, and end it. `n_before`: bytes taken so far, whole blocks. O(n)."""
    cdef uint8_t last[2 * BLOCK_BYTES]
    cdef size_t n_whole = n // BLOCK_BYTES, n_rest = n % BLOCK_BYTES
    cdef size_t n_last = BLOCK_BYTES if n_rest < BLOCK_BYTES - 8 else 2 * BLOCK_BYTES
    cdef uint64_t n_bits = 8 * <uint64_t>(n_before + n)
    cdef int i
    sha(hash, at, n_whole)
    memset(last, 0, sizeof(last))
    if n_rest:
        memcpy(last, at + n_whole * BLOCK_BYTES, n_rest)
    last[n_rest] = 0x80
    for i in range(8):
        last[n_last - 1 - i] = <uint8_t>(n_bits >> (8 * i))
    sha(hash, last, n_last // BLOCK_BYTES)


cdef inline void write_words(uint8_t* to, const uint32_t* words, int n) noexcept nogil:
    """Write words, the highest byte first."""
    cdef int i
    for i in range(n):
        to[4 * i], to[4 * i + 1] = <uint8_t>(words[i] >> 24), <uint8_t>(words[i] >> 16)
        to[4 * i + 2], to[4 * i + 3] = <uint8_t>(words[i] >> 8), <uint8_t>words[i]


def sha256(bytes data not None, *, bint in_c=False):
    cdef uint32_t hash[8]
    cdef uint8_t digest[DIGEST_BYTES]
    memcpy(hash, sha_begin, sizeof(hash))
    sha_end(sha_in_c if in_c else BEST, hash, <const uint8_t*>PyBytes_AS_STRING(data), len(data), 0)
    write_words(digest, hash, 8)
    return PyBytes_FromStringAndSize(<char*>digest, DIGEST_BYTES)


# Names

cdef int guest_key_begin(GuestKey* key, bytes secret) except -1:
    """Begin both hashes of HMAC (RFC 2104) with a key. O(length)."""
    cdef bytes whole = sha256(secret) if PyBytes_GET_SIZE(secret) > BLOCK_BYTES else secret
    cdef uint8_t inner[BLOCK_BYTES]
    cdef uint8_t outer[BLOCK_BYTES]
    cdef int i
    for i in range(BLOCK_BYTES):
        inner[i] = outer[i] = whole[i] if i < PyBytes_GET_SIZE(whole) else 0
        inner[i] ^= 0x36
        outer[i] ^= 0x5c
    memcpy(key.inner, sha_begin, sizeof(key.inner))
    memcpy(key.outer, sha_begin, sizeof(key.outer))
    BEST(key.inner, inner, 1)
    BEST(key.outer, outer, 1)
    return 0


cdef int guest_name(const GuestKey* key, bint is_bot, Name known_by, Name agent, char* to) noexcept nogil:
    """Write the name of a guest or a bot; return its length, at most MOST_GUEST_BYTES. O(length).

    `known_by` has at most MOST_ADDRESS_BYTES, `agent` at most MOST_AGENT_BYTES.
    """
    cdef uint8_t text[8 + MOST_ADDRESS_BYTES + MOST_AGENT_BYTES]
    cdef uint8_t digest[DIGEST_BYTES]
    cdef uint32_t hash[8]
    cdef int n_word = 4 if is_bot else 6, i
    cdef size_t n = n_word
    memcpy(text, b"bot " if is_bot else b"guest ", n)
    memcpy(text + n, known_by.at, known_by.n_bytes)
    n += known_by.n_bytes
    text[n] = c' '
    n += 1
    if agent.n_bytes and not (agent.n_bytes == 1 and agent.at[0] == c'-'):
        memcpy(text + n, agent.at, agent.n_bytes)
        n += agent.n_bytes
    memcpy(hash, key.inner, sizeof(hash))
    sha_end(BEST, hash, text, n, BLOCK_BYTES)
    write_words(digest, hash, 8)
    memcpy(hash, key.outer, sizeof(hash))
    sha_end(BEST, hash, digest, DIGEST_BYTES, BLOCK_BYTES)
    write_words(digest, hash, 2)
    memcpy(to, b"bot-" if is_bot else b"guest-", n_word)
    for i in range(HASH_DIGITS // 2):
        to[n_word + 2 * i], to[n_word + 2 * i + 1] = HEX[digest[i] >> 4], HEX[digest[i] & 15]
    return n_word + HASH_DIGITS


cdef class GuestNames:
    cdef GuestKey key

    def __cinit__(self, bytes key not None):
        guest_key_begin(&self.key, key)

    def guest(self, bytes address not None, bytes agent not None):
        return self.name(False, address, agent)

    def bot(self, bytes known_by not None, bytes agent not None):
        return self.name(True, known_by, agent)

    cdef bytes name(self, bint is_bot, bytes known_by, bytes agent):
        cdef char name[MOST_GUEST_BYTES]
        if len(known_by) > MOST_ADDRESS_BYTES or len(agent) > MOST_AGENT_BYTES:
            raise ValueError("an address or an agent that takes the careful way")
        return name[:guest_name(&self.key, is_bot, name_from(known_by), name_from(agent), name)]


# Addresses

cdef bint is_v4(const char* at, const char* end) noexcept nogil:
    """Tell if this is IPv4 in its one form: four numbers up to 255 without leading zeros. O(1)."""
    cdef int n_numbers = 0, number, n_digits
    while True:
        number = n_digits = 0
        while at < end and n_digits < 4 and <uint8_t>(at[0] - c'0') < 10:
            number = 10 * number + at[0] - c'0'
            n_digits += 1
            at += 1
        if not n_digits or number > 255 or (n_digits > 1 and at[-n_digits] == c'0'):
            return False
        n_numbers += 1
        if at == end or n_numbers == 4:
            return at == end and n_numbers == 4
        if at[0] != c'.':
            return False
        at += 1


cdef inline int hex_digit(char byte) noexcept nogil:
    """Return the value of a hexadecimal digit; -1 if it is none."""
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef bint read_v6(const char* at, const char* end, uint32_t* groups) noexcept nogil:
    """Read IPv6 of hexadecimal groups, of which `::` stands for one or more that are zero. O(1)."""
    cdef int n = 0, n_digits, gap = -1, i
    if end - at >= 2 and at[0] == c':' and at[1] == c':':
        gap = 0
        at += 2
    while at < end:
        if n == GROUPS:
            return False
        groups[n] = n_digits = 0
        while at < end and n_digits < 4 and hex_digit(at[0]) >= 0:
            groups[n] = 16 * groups[n] + hex_digit(at[0])
            n_digits += 1
            at += 1
        if not n_digits:
            return False
        n += 1
        if at == end:
            break
        if at[0] != c':' or at + 1 == end:
            return False
        at += 1
        if at[0] == c':':
            if gap >= 0:
                return False
            gap = n
            at += 1
    if gap < 0:
        return n == GROUPS
    if n == GROUPS:
        return False
    for i in range(n - gap):
        groups[GROUPS - 1 - i] = groups[n - 1 - i]
    for i in range(gap, GROUPS - n + gap):
        groups[i] = 0
    return True


cdef int write_v6(const uint32_t* groups, char* to) noexcept nogil:
    """Write IPv6 as RFC 5952 has it: `::` for the first of the longest runs of zeros, of at least two. O(1)."""
    cdef int gap = -1, n_gap = 1, n_zeros = 0, n = 0, i, shift
    for i in range(GROUPS):
        n_zeros = 0 if groups[i] else n_zeros + 1
        if n_zeros > n_gap:
            gap, n_gap = i + 1 - n_zeros, n_zeros
    i = 0
    while i < GROUPS:
        if i == gap:
            to[n] = to[n + 1] = c':'
            n += 2
            i += n_gap
            continue
        if i and i != gap + n_gap * (gap >= 0):
            to[n] = c':'
            n += 1
        shift = 12
        while shift and not groups[i] >> shift:
            shift -= 4
        while shift >= 0:
            to[n] = HEX[groups[i] >> shift & 15]
            n += 1
            shift -= 4
        i += 1
    return n


cdef int one_form(Name address, char* to) noexcept nogil:
    """Write the one form of an address, at most MOST_ADDRESS_BYTES; return its length, 0 if it takes the careful way.
    O(1).
    """
    cdef uint32_t groups[GROUPS]
    if address.n_bytes == 0 or address.n_bytes > MOST_ADDRESS_BYTES:
        return 0
    if is_v4(address.at, address.at + address.n_bytes):
        memcpy(to, address.at, address.n_bytes)
        return <int>address.n_bytes
    if not read_v6(address.at, address.at + address.n_bytes, groups):
        return 0
    if not (groups[0] | groups[1] | groups[2] | groups[3] | groups[4]) and groups[5] == 0xffff:
        return 0                                         # IPv4 inside IPv6
    return write_v6(groups, to)
