"""What an index adds to the past: the greatest counts of a minute, its visitors, and the sessions that ended.

Its job: to note these while hits are carried out, for whoever keeps them (serve/past.py), and the sketches that
estimate how many different people came. Not its job: the greatest counts (core notes them), files, and wall time.

A visitor of a minute, of ten minutes or of an hour is a person whose first hit in it has come. A hit pays one
comparison of times for that, unless it is its user's first in the minute. For the minute and the ten minutes visitors
are counted: a user whose session ended meanwhile counts again. An hour has a sketch, which counts nobody twice.

A sketch is a HyperLogLog of 2^14 registers (Flajolet et al., 2007), each the greatest rank of the hashes that fell to
it: a standard error of 1.04 / sqrt(2^14) = 0.8 %. The hash is the same everywhere, so sketches of several hours, sites
or servers merge by maximum. The estimate is the improved raw one of Ertl (arXiv:1702.01284), good for few and many.
A sketch holds no names, and nobody can be taken out of it.
"""

from libc.math cimport INFINITY, sqrt
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from online.core.arena cimport NO_REF, purse_give, purse_take, ref_t
from online.core.core cimport (
    TIE_MASK, Core, Hit, core_advance, core_begin_minute, core_later, core_seen_ms, key_of,
)
from online.core.index cimport Index
from online.core.skiplist cimport (
    BOT, DEPARTED, GUEST, HIDDEN, MEMBER, Name, kind_at, name_of, skiplist_seek_time,
)
from online.core.table cimport HashKey, siphash

__all__ = ["SKETCH_BYTES", "Past", "estimate", "merged", "sketch", "sightings"]

cdef extern from *:
    int __builtin_clzll(unsigned long long word) noexcept nogil

cdef enum:
    REGISTER_BITS = 14
    REGISTERS = 1 << REGISTER_BITS
    MOST_RANK = 64 - REGISTER_BITS + 1
    GONE_MOST_BYTES = 64 * 1024 * 1024                   # of sightings that nobody has taken
    CHUNK_BYTES = 256 * 1024                             # of which so many stand together: longer than any sighting

SKETCH_BYTES = REGISTERS

#: The same on every server, so that their sketches merge.
cdef HashKey EVERYWHERE
EVERYWHERE.k0, EVERYWHERE.k1 = 0x6F6E6C696E652076, 0x697369746F727320

cdef double MOST_VISITORS = 2.0 ** 62


# Sketches

cdef inline void sketch_add(uint8_t* registers, Name user) noexcept nogil:
    cdef uint64_t hash = siphash(EVERYWHERE, user.at, user.n_bytes)
    cdef uint64_t rest = hash << REGISTER_BITS | (<uint64_t>1 << (REGISTER_BITS - 1))
    cdef uint8_t rank = <uint8_t>(__builtin_clzll(rest) + 1)
    cdef uint8_t* register = &registers[hash >> (64 - REGISTER_BITS)]
    register[0] = max(register[0], rank)


cdef double sigma(double x) noexcept nogil:
    cdef double y = 1, z = x, before = -1
    if x == 1:
        return INFINITY
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


cdef double tau(double x) noexcept nogil:
    cdef double y = 1, z = 1 - x, before = -1
    if x == 0 or x == 1:
        return 0
    while z != before:
        x = sqrt(x)
        before = z
        y /= 2
        z -= (1 - x) * (1 - x) * y
    return z / 3


cdef int64_t estimate_of(const uint8_t* registers) noexcept nogil:
    cdef int64_t counts[MOST_RANK + 1]
    cdef double m = REGISTERS, z
    cdef int i
    memset(counts, 0, sizeof(counts))
    for i in range(<int>REGISTERS):
        counts[min(registers[i], <uint8_t>MOST_RANK)] += 1
    z = m * tau(1 - counts[<int>MOST_RANK] / m)
    for i in range(<int>MOST_RANK - 1, 0, -1):
        z = (z + counts[i]) / 2
    z += m * sigma(counts[0] / m)
    z = m * m / (2 * 0.6931471805599453) / z + 0.5
    return <int64_t>z if z < MOST_VISITORS else 0        # a damaged sketch, whose registers are full, tells of nobody


cdef int check_sketch(const uint8_t[::1] registers) except -1:
    if registers.shape[0] != REGISTERS:
        raise ValueError(f"a sketch has {REGISTERS} bytes, not {registers.shape[0]}")
    return 0


def estimate(const uint8_t[::1] registers not None):
    check_sketch(registers)
    return estimate_of(&registers[0])


def merged(const uint8_t[::1] one not None, const uint8_t[::1] other not None):
    cdef bytes made = bytes(REGISTERS)
    cdef uint8_t* registers = <uint8_t*><char*>made
    check_sketch(one)
    check_sketch(other)
    for i in range(<int>REGISTERS):
        registers[i] = max(one[i], other[i])
    return made


def sketch(users not None):
    cdef bytes made = bytes(REGISTERS), user
    cdef Name name
    for user in users:
        name.at, name.n_bytes = user, <uint32_t>len(user)
        sketch_add(<uint8_t*><char*>made, name)
    return made


# Sightings: sessions that have ended

cdef struct Gone:
    # Before the user and the url.
    int64_t seen_ms
    uint32_t user_bytes
    uint16_t url_bytes
    uint8_t kind

cdef struct Chunk:
    # Sightings stand behind it.
    Chunk* next
    size_t n_bytes

cdef struct Noted:
    Core* core
    int64_t minute_ms                                    # when each began, in index time
    int64_t ten_ms
    int64_t hour_ms
    int64_t visitors
    int64_t ten_visitors
    int64_t loads                                        # page loads before the minute
    uint8_t* registers                                   # of the hour; NULL: nobody came yet
    bint is_touched
    Chunk* gone                                          # the oldest; NULL: nobody has gone since somebody asked
    Chunk* gone_last
    size_t gone_bytes                                    # of all chunks, whether used or not
    int64_t lost                                         # sightings that found no room


cdef void note_visit(void* to, const Hit* hit, int64_t seen_ms, int64_t before_ms) noexcept nogil:
    """Count a person whose first hit of the minute has come. Who only leaves was here before, in this hour."""
    cdef Noted* noted = <Noted*>to
    if hit.kind == <int>BOT or (hit.kind == <int>DEPARTED and before_ms == INT64_MIN):
        return
    if hit.kind != <int>DEPARTED:
        noted.visitors += seen_ms >= noted.minute_ms
        noted.ten_visitors += before_ms < noted.ten_ms and seen_ms >= noted.ten_ms
    if before_ms < noted.hour_ms and has_registers(noted):
        sketch_add(noted.registers, hit.user)
        noted.is_touched = True


cdef bint has_registers(Noted* noted) noexcept nogil:
    """Make room for a sketch, if there is none. False if there is no memory."""
    if noted.registers == NULL and purse_take(noted.core.users.purse, REGISTERS):
        noted.registers = <uint8_t*>calloc(REGISTERS, 1)
        if noted.registers == NULL:
            purse_give(noted.core.users.purse, REGISTERS)
    return noted.registers != NULL


cdef Chunk* chunk_free(Chunk* chunk) noexcept nogil:
    """Free a chunk, and return the one behind it."""
    cdef Chunk* next = chunk.next
    free(chunk)
    return next


cdef bint chunk_add(Noted* noted) noexcept nogil:
    """Begin another chunk. False if there is no room."""
    cdef Chunk* chunk
    if noted.gone_bytes + CHUNK_BYTES > GONE_MOST_BYTES:
        return False
    chunk = <Chunk*>malloc(CHUNK_BYTES)
    if chunk == NULL:
        return False
    chunk.next, chunk.n_bytes = NULL, 0
    if noted.gone == NULL:
        noted.gone = chunk
    else:
        noted.gone_last.next = chunk
    noted.gone_last = chunk
    noted.gone_bytes += CHUNK_BYTES
    return True


cdef void note_gone(void* to, int kind, Name user, Name url, int64_t seen_ms) noexcept nogil:
    """Note where a member was last seen, or that a user is hidden."""
    cdef Noted* noted = <Noted*>to
    cdef Gone gone
    cdef size_t n_bytes = sizeof(Gone) + user.n_bytes + url.n_bytes
    cdef char* at
    if kind != <int>MEMBER and kind != <int>HIDDEN:
        return
    if noted.gone == NULL or sizeof(Chunk) + noted.gone_last.n_bytes + n_bytes > CHUNK_BYTES:
        if not chunk_add(noted):
            noted.lost += 1
            return
    memset(&gone, 0, sizeof(Gone))
    gone.seen_ms, gone.kind = seen_ms, <uint8_t>kind
    gone.user_bytes, gone.url_bytes = user.n_bytes, <uint16_t>url.n_bytes
    at = <char*>(noted.gone_last + 1) + noted.gone_last.n_bytes
    memcpy(at, &gone, sizeof(Gone))
    memcpy(at + sizeof(Gone), user.at, user.n_bytes)
    memcpy(at + sizeof(Gone) + user.n_bytes, url.at, url.n_bytes)
    noted.gone_last.n_bytes += n_bytes


cdef class Sightings:
    """What was noted until somebody took it; what has been read of it is freed."""

    cdef Chunk* first
    cdef int64_t step_ms

    def __iter__(self):
        cdef const char* at
        cdef size_t place
        cdef Gone gone
        while self.first != NULL:
            at, place = <const char*>(self.first + 1), 0
            while place < self.first.n_bytes:
                memcpy(&gone, at + place, sizeof(Gone))
                place += sizeof(Gone)
                user = at[place:place + gone.user_bytes]
                place += gone.user_bytes
                url = at[place:place + gone.url_bytes]
                place += gone.url_bytes
                yield user, None if gone.kind == <int>HIDDEN else url, gone.seen_ms + self.step_ms
            self.first = chunk_free(self.first)

    def __dealloc__(self):
        while self.first != NULL:
            self.first = chunk_free(self.first)


cdef class Past:
    cdef Index _index
    cdef Noted noted

    def __init__(self, Index index not None, *, bint keeps_last=False):
        cdef Core* core = &index.core
        if core.past != NULL:
            raise ValueError("somebody keeps the past of this index already")
        self._index = index
        self.noted.core = core
        core.past = &self.noted
        core.visit = note_visit
        if keeps_last:
            core.gone = note_gone

    def close(self):
        cdef Core* core
        if self._index is None:
            return
        core = &self._index.core
        core.visits_from_ms = INT64_MIN
        core.gone = NULL
        core.past = NULL
        if self.noted.registers != NULL:
            purse_give(core.users.purse, REGISTERS)
        free(self.noted.registers)
        while self.noted.gone != NULL:
            self.noted.gone = chunk_free(self.noted.gone)
        self.noted.registers = NULL
        self._index = None

    def __dealloc__(self):
        self.close()

    @property
    def lost(self):
        return self.noted.lost

    def begin(self, int64_t minute_ms, int64_t ten_ms, int64_t hour_ms, *, now_ms):
        cdef Core* core = &self._index.core
        cdef Noted* noted = &self.noted
        core_advance(core, now_ms)
        core_begin_minute(core)
        noted.visitors = 0
        if ten_ms != noted.ten_ms:
            noted.ten_visitors = 0
        if hour_ms != noted.hour_ms and noted.registers != NULL:
            memset(noted.registers, 0, REGISTERS)
            noted.is_touched = False
        noted.minute_ms, noted.ten_ms, noted.hour_ms = minute_ms, ten_ms, hour_ms
        noted.loads = core.tally.accepted - core.tally.left
        core.visits_from_ms = minute_ms

    def so_far(self):
        cdef Core* core = &self._index.core
        cdef Noted* noted = &self.noted
        return (
            core.most_people, core.most_kinds[<int>MEMBER], core.most_kinds[<int>GUEST], core.most_kinds[<int>BOT],
            core.tally.accepted - core.tally.left - noted.loads, noted.visitors, noted.ten_visitors,
            0 if noted.registers == NULL else estimate_of(noted.registers), core.most_at_ms)

    def most(self):
        return self._index.core.most_people, self._index.core.most_at_ms

    def take_sketch(self):
        if not self.noted.is_touched:
            return None
        self.noted.is_touched = False
        return <bytes>(<char*>self.noted.registers)[:REGISTERS]

    def merge_sketch(self, const uint8_t[::1] registers not None):
        check_sketch(registers)
        if has_registers(&self.noted):
            for i in range(<int>REGISTERS):
                self.noted.registers[i] = max(self.noted.registers[i], registers[i])

    def take_gone(self, int64_t step_ms=0):
        cdef Sightings taken
        if self.noted.gone == NULL:
            return None
        taken = Sightings()
        taken.first, taken.step_ms = self.noted.gone, step_ms
        self.noted.gone = NULL
        self.noted.gone_bytes = 0
        return taken

    def revisit(self, int64_t from_ms, int64_t to_ms):
        """See past.pyi."""
        cdef Core* core = &self._index.core
        cdef bint named
        cdef ref_t at
        if not has_registers(&self.noted):
            return
        for named in (True, False):
            at = skiplist_seek_time(
                &core.skiplist, core.named if named else core.unnamed,
                key_of(max(from_ms, core.first_ms) - 1, TIE_MASK))
            at = core_later(core, at, named)
            while at != NO_REF and core_seen_ms(core, at) < to_ms:
                if kind_at(&core.skiplist, at) <= <int>HIDDEN:
                    sketch_add(self.noted.registers, name_of(&core.skiplist, at))
                    self.noted.is_touched = True
                at = core_later(core, at, named)
