"""Hits by number, drawn from a seed and written straight into bytes.

Its job: the user, url and time of each hit of a workload, as MessagePack frames, as RESP commands, or as Python
objects. Not its job: which workloads there are (workloads.py), sending them (load.pyx).

Invariants:
1. A hit is drawn from the seed and its number alone: it is the same in every form, whatever was asked for before.
2. A name or url is shorter than 32 bytes, so that its MessagePack head is one byte.
"""

from libc.math cimport pow
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from math import gcd

__all__ = ["Generator"]

cdef enum:
    SHORTEST_NUMBER = 6                                  # digits of a user: user000042
    LONGEST_NUMBER = 10
    CELLS_BITS = 16                                      # of the guide to the table of urls
    ITEM_BYTES = 96                                      # more than a hit takes in either form, without its head
    FRAME_HEAD_BYTES = 16
    LATEST_MS = 60_000                                   # how much too late a late hit is at most
    DRAWS = 4                                            # random numbers a hit

cdef struct Drawn:
    uint64_t user
    uint64_t url
    int64_t seen_ms


cdef inline uint64_t mixed(uint64_t state) noexcept nogil:
    """SplitMix64's output function (Steele, Lea, Flood 2014): the n-th number of a seed without the others."""
    state = (state ^ (state >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t>0x94D049BB133111EB
    return state ^ (state >> 31)


cdef inline uint64_t below(uint64_t number, uint64_t n) noexcept nogil:
    """Reduce a random number to one below `n`, at most 2^32, by its upper half."""
    return ((number >> 32) * n) >> 32


cdef inline char* write_text(char* out, const char* text, size_t n_bytes) noexcept nogil:
    memcpy(out, text, n_bytes)
    return out + n_bytes


cdef char* write_number(char* out, uint64_t number, int shortest) noexcept nogil:
    """Write a number in decimal, with zeros before it up to `shortest` digits."""
    cdef char digits[20]
    cdef int n = 0
    while number or n < shortest:
        digits[n] = <char>(48 + number % 10)
        number //= 10
        n += 1
    while n:
        n -= 1
        out[0] = digits[n]
        out += 1
    return out


cdef char* write_user(char* out, uint64_t number) noexcept nogil:
    return write_number(write_text(out, b"user", 4), number, SHORTEST_NUMBER)


cdef char* write_url(char* out, uint64_t number) noexcept nogil:
    return write_number(write_text(out, b"/forum/topic/", 13), number, 1)


cdef inline char* write_big_endian(char* out, uint64_t value, int n_bytes) noexcept nogil:
    cdef int i
    for i in range(n_bytes):
        out[i] = <char>(value >> (8 * (n_bytes - 1 - i)))
    return out + n_bytes


cdef char* write_item(char* out, const Drawn* hit) noexcept nogil:
    """Write `[user, url, seen_ms]` in MessagePack."""
    cdef char* head
    out[0] = <char>0x93
    head = out + 1
    out = write_user(head + 1, hit.user)
    head[0] = <char>(0xA0 | (out - head - 1))
    head = out
    out = write_url(head + 1, hit.url)
    head[0] = <char>(0xA0 | (out - head - 1))
    out[0] = <char>0xCF
    return write_big_endian(out + 1, <uint64_t>hit.seen_ms, 8)


cdef char* write_bulk(char* out, const char* text, size_t n_bytes) noexcept nogil:
    out[0] = b"$"
    out = write_text(write_number(out + 1, n_bytes, 1), b"\r\n", 2)
    return write_text(write_text(out, text, n_bytes), b"\r\n", 2)


cdef char* write_words(char* out, const Drawn* hit) noexcept nogil:
    """Write user, url and seen_ms as three words of a RESP command."""
    cdef char word[32]
    out = write_bulk(out, word, write_user(word, hit.user) - word)
    out = write_bulk(out, word, write_url(word, hit.url) - word)
    return write_bulk(out, word, write_number(word, <uint64_t>hit.seen_ms, 1) - word)


cdef class Generator:
    cdef readonly int64_t n_hits
    cdef uint64_t seed, n_users, n_urls, stride
    cdef int64_t n_once, start_ms, span_ms
    cdef bint are_users_new
    cdef uint64_t late_below
    cdef double* shares                                  # of the urls up to each
    cdef uint32_t* guide                                 # the first url that may be meant, by the number's upper bits

    def __cinit__(self, *, int64_t n_users, int64_t n_urls, int64_t n_hits, int64_t seed, int64_t start_ms,
                  int64_t span_ms, double exponent, double late_share=0, bint are_users_new=False, int64_t n_once=0):
        if not (0 < n_users < 2 ** 32 and 0 < n_urls < 2 ** 32 and 0 < n_hits < 2 ** 32):
            raise ValueError("users, urls and hits take 1 to 2**32 - 1")
        self.n_users, self.n_urls, self.n_hits = n_users, n_urls, n_hits
        self.start_ms, self.span_ms, self.n_once = start_ms, span_ms, n_once
        self.are_users_new = are_users_new
        self.seed = mixed(<uint64_t>seed)
        self.late_below = <uint64_t>(late_share * <double>(<uint64_t>1 << 53))
        stride = round(n_users * 0.6180339887) | 1
        while gcd(stride, n_users) > 1:
            stride += 2
        self.stride = stride
        self.shares = <double*>malloc(n_urls * sizeof(double))
        self.guide = <uint32_t*>calloc((1 << CELLS_BITS) + 1, sizeof(uint32_t))
        if self.shares == NULL or self.guide == NULL:
            raise MemoryError
        self.fill(exponent)

    def __dealloc__(self):
        free(self.shares)
        free(self.guide)

    cdef void fill(self, double exponent) noexcept:
        """Make the inverse of Zipf's distribution: what share of the hits goes to urls up to each."""
        cdef double total = 0, so_far = 0
        cdef uint64_t url, cell = 0
        for url in range(self.n_urls):
            total += 1 / pow(<double>(url + 1), exponent)
        for url in range(self.n_urls):
            so_far += 1 / pow(<double>(url + 1), exponent)
            self.shares[url] = so_far / total
            while cell < 1 << CELLS_BITS and <double>cell / (1 << CELLS_BITS) < self.shares[url]:
                self.guide[cell] = <uint32_t>url
                cell += 1
        self.shares[self.n_urls - 1] = 1

    cdef inline uint64_t url_at(self, uint64_t number) noexcept nogil:
        cdef double share = <double>(number >> 11) / <double>(<uint64_t>1 << 53)
        cdef uint64_t url = self.guide[number >> (64 - CELLS_BITS)]
        while self.shares[url] <= share and url < self.n_urls - 1:
            url += 1
        return url

    cdef inline uint64_t user_at(self, int64_t nth, uint64_t number) noexcept nogil:
        if self.are_users_new:
            return <uint64_t>nth
        if nth < self.n_once:
            return <uint64_t>nth * self.stride % self.n_users
        return below(number, self.n_users)

    cdef Drawn draw(self, int64_t nth) noexcept nogil:
        cdef uint64_t state = self.seed + <uint64_t>nth * DRAWS * <uint64_t>0x9E3779B97F4A7C15
        cdef uint64_t gamma = <uint64_t>0x9E3779B97F4A7C15
        cdef Drawn hit
        hit.user = self.user_at(nth, mixed(state))
        hit.url = self.url_at(mixed(state + gamma))
        hit.seen_ms = self.start_ms + nth * self.span_ms // self.n_hits
        if self.late_below and (mixed(state + 2 * gamma) >> 11) < self.late_below:
            hit.seen_ms -= <int64_t>below(mixed(state + 3 * gamma), LATEST_MS)
        return hit

    def hits(self, int64_t first, int64_t n):
        """Return `[(user, url, seen_ms), ...]`."""
        cdef char user[32]
        cdef char url[32]
        cdef Drawn hit
        cdef int64_t nth
        cdef list hits = []
        self.check(first, n)
        for nth in range(first, first + n):
            hit = self.draw(nth)
            hits.append((
                user[:write_user(user, hit.user) - user], url[:write_url(url, hit.url) - url], hit.seen_ms))
        return hits

    def frames(self, int64_t first, int64_t n, int64_t frame_hits, *, int64_t msgid=-1):
        """Return MessagePack `hits` frames: notifications, or requests that are numbered from `msgid` on."""
        cdef int64_t n_frames = (n + frame_hits - 1) // frame_hits
        cdef Drawn hit
        cdef int64_t nth, left = 0, end = first + n
        cdef char* begin
        cdef char* out
        self.check(first, n)
        if not 0 < frame_hits < 1 << 16:
            raise ValueError("a frame takes 1 to 65,535 hits")
        begin = out = <char*>malloc(n_frames * FRAME_HEAD_BYTES + n * ITEM_BYTES + 1)
        if begin == NULL:
            raise MemoryError
        with nogil:
            for nth in range(first, end):
                if left == 0:
                    left = min(frame_hits, end - nth)
                    out = write_frame_head(out, msgid, left)
                    msgid += msgid >= 0
                left -= 1
                hit = self.draw(nth)
                out = write_item(out, &hit)
        try:
            return begin[:out - begin]
        finally:
            free(begin)

    def commands(self, int64_t first, int64_t n, bytes head not None):
        """Return RESP commands: each `head`, which counts three words more, then user, url and seen_ms."""
        cdef const char* heading = head
        cdef size_t heading_bytes = len(head)
        cdef Drawn hit
        cdef int64_t nth
        cdef char* begin
        cdef char* out
        self.check(first, n)
        begin = out = <char*>malloc(n * (heading_bytes + ITEM_BYTES) + 1)
        if begin == NULL:
            raise MemoryError
        with nogil:
            for nth in range(first, first + n):
                hit = self.draw(nth)
                out = write_words(write_text(out, heading, heading_bytes), &hit)
        try:
            return begin[:out - begin]
        finally:
            free(begin)

    cdef int check(self, int64_t first, int64_t n) except -1:
        if first < 0 or n < 0 or first + n > self.n_hits:
            raise ValueError(f"there are {self.n_hits:,} hits, not {first + n:,}")
        return 0


cdef char* write_frame_head(char* out, int64_t msgid, int64_t n_hits) noexcept nogil:
    if msgid < 0:
        out = write_text(out, b"\x93\x02", 2)
    else:
        out = write_text(out, b"\x94\x00\xce", 3)
        out = write_big_endian(out, <uint64_t>msgid, 4)
    out = write_text(out, b"\xa4hits\xdc", 6)
    return write_big_endian(out, <uint64_t>n_hits, 2)
