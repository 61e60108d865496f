"""Hits and leaves as they were applied -> frames, one behind the other in a buffer that grows. Inline C.

Its job: the bytes, the same as on the wire: `hits` notifications, and `LEAVE`. Not its job: who notes what, and where
it goes (observers, journal, frames).

Invariants:
1. Between two calls of `notes_end_batch` there is at most one open batch, at the end. Its head has room for its
   number of hits, which is written when it ends.
2. What found no memory is missing, and `is_incomplete` says so.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from online.core.core cimport Hit
from online.core.msgpack_values cimport big_endian, pack_array, pack_int, pack_text
from online.core.skiplist cimport DEPARTED, Name

cdef extern from *:
    """
    #define NOTE_KIND_BYTES 8
    static const char NOTE_KINDS[4][NOTE_KIND_BYTES] = {"\\xA6member", "\\xA5guest", "\\xA6hidden", "\\xA3" "bot"};
    static const int NOTE_KIND_LENGTHS[4] = {7, 6, 7, 4};
    #define NOTE_BATCH "\\x93\\x02\\xA4hits\\xDD\\0\\0\\0\\0"
    #define NOTE_LEAVE "\\x93\\x02\\xA5LEAVE\\x92"
    """
    const int NOTE_KIND_BYTES
    const char NOTE_KINDS[4][8]
    const int NOTE_KIND_LENGTHS[4]
    const char* NOTE_BATCH
    const char* NOTE_LEAVE

cdef enum:
    NOTE_BATCH_BYTES = 12                                # of the head of a batch, with its number of hits in 32 bits
    NOTE_COUNT_AT = 7                                    # in that head
    NOTE_LEAVE_BYTES = 9
    NOTE_REST_BYTES = 64                                 # of a hit, beside its names, and of the head before it

cdef struct Notes:
    char* at
    size_t n_bytes
    size_t size
    size_t batch                                         # where the open batch begins
    int64_t n_hits                                       # in the open batch; 0: none is open
    int64_t clock_step_ms                                # added to times: wall time less index time
    bint is_incomplete

cdef inline char* notes_reserve(Notes* notes, size_t n_bytes) noexcept nogil:
    """Return where `n_bytes` may be written, or NULL if there is no memory."""
    cdef size_t size = max(notes.size, <size_t>4096)
    cdef void* at
    if notes.n_bytes + n_bytes > notes.size:
        while size < notes.n_bytes + n_bytes:
            size *= 2
        at = realloc(notes.at, size)
        if at == NULL:
            notes.is_incomplete = True
            return NULL
        notes.at, notes.size = <char*>at, size
    return notes.at + notes.n_bytes

cdef inline void notes_end_batch(Notes* notes) noexcept nogil:
    """Write the number of hits into the head of the open batch."""
    if notes.n_hits:
        big_endian(notes.at + notes.batch + NOTE_COUNT_AT, 0xDD, <unsigned long long>notes.n_hits, 4)
        notes.n_hits = 0

cdef inline void notes_leave(Notes* notes, Name user, int64_t seen_ms) noexcept nogil:
    """Append a leave."""
    cdef char* out = notes_reserve(notes, user.n_bytes + NOTE_REST_BYTES)
    cdef size_t n = NOTE_LEAVE_BYTES
    if out == NULL:
        return
    notes_end_batch(notes)
    memcpy(out, NOTE_LEAVE, NOTE_LEAVE_BYTES)
    n += pack_text(out + n, user)
    n += pack_int(out + n, seen_ms + notes.clock_step_ms)
    notes.n_bytes += n

cdef inline void notes_hit(Notes* notes, Name user, Name url, int64_t seen_ms, int kind) noexcept nogil:
    """Append a hit to the open batch, or to a new one."""
    cdef char* out = notes_reserve(notes, user.n_bytes + url.n_bytes + NOTE_REST_BYTES)
    cdef size_t n = 0
    if out == NULL:
        return
    if notes.n_hits == 0:
        notes.batch = notes.n_bytes
        memcpy(out, NOTE_BATCH, NOTE_BATCH_BYTES)
        n = NOTE_BATCH_BYTES
    n += pack_array(out + n, 4)
    n += pack_text(out + n, user)
    n += pack_text(out + n, url)
    n += pack_int(out + n, seen_ms + notes.clock_step_ms)
    memcpy(out + n, NOTE_KINDS[kind], NOTE_KIND_BYTES)
    notes.n_bytes += n + NOTE_KIND_LENGTHS[kind]
    notes.n_hits += 1

cdef inline void notes_written(Notes* notes, const Hit* hit, int64_t seen_ms) noexcept nogil:
    """Append what was applied: a hit, or a leave."""
    if hit.kind == <int>DEPARTED:
        notes_leave(notes, hit.user, seen_ms)
    else:
        notes_hit(notes, hit.user, hit.url, seen_ms, hit.kind)
