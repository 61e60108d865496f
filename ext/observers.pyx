"""Observers of an index: what was written to it, and what changed in it.

Its job: to note both, in order, while hits are carried out, for whoever takes it between two turns (a journal, a bus,
push). Not its job: where it goes then. An index without an observer pays one test a hit for each.

Invariants:
1. Every hit and leave that made a session is noted, whichever way it came; what the rules ignored or refused is not.
2. What is noted is as it was applied: its time is settled, so that a replay does not depend on a clock.
3. An observer that could not note something, for want of memory, says so (`is_incomplete`) until that is taken.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from online.core.arena cimport NO_REF, ref_t
from online.core.arguments cimport kind_name
from online.core.msgpack_values cimport big_endian, pack_array, pack_int, pack_text
from online.core.core cimport Hit, Watch, core_unwatch, core_watch
from online.core.index cimport Index, bytes_from
from online.core.skiplist cimport DEPARTED, name_of

cdef enum:
    KIND_BYTES = 16                                      # room for a kind
    HEAD_BYTES = 12                                      # of a batch, with its number of hits in 32 bits
    COUNT_AT = 7                                         # in that head
    REST_BYTES = 64                                      # of a hit, beside its names, and of the head before it

cdef const char* BATCH_HEAD = b"\x93\x02\xa4hits\xdd\0\0\0\0"
cdef char KINDS[<int>DEPARTED][KIND_BYTES]
cdef size_t KINDS_BYTES[<int>DEPARTED]


def _pack_kinds():
    cdef int kind
    cdef bytes name
    for kind in range(<int>DEPARTED):
        name = kind_name(kind)
        KINDS[kind][0] = <char>(0xA0 | len(name))
        memcpy(&KINDS[kind][1], <const char*>name, len(name))
        KINDS_BYTES[kind] = 1 + len(name)


_pack_kinds()


cdef struct Notes:
    char* at
    size_t n_bytes
    size_t size
    size_t batch                                         # where the open batch begins
    int64_t n_hits                                       # in the open batch; 0: none is open
    int64_t clock_step_ms
    bint is_incomplete


cdef class Written:
    """Frames of what is written to an index, as on the wire: `hits` notifications, and `LEAVE`."""

    cdef Index _index
    cdef Notes notes

    def __init__(self, Index index not None):
        if index.core.written != NULL:
            raise ValueError("somebody observes what is written to this index already")
        self._index = index
        index.core.written_to = &self.notes
        index.core.written = note_written

    def close(self):
        if self._index is not None and self._index.core.written_to == &self.notes:
            self._index.core.written = NULL
            self._index.core.written_to = NULL
        self._index = None

    def __dealloc__(self):
        if self._index is not None:
            self._index.core.written = NULL
            self._index.core.written_to = NULL
        free(self.notes.at)

    @property
    def clock_step_ms(self):
        return self.notes.clock_step_ms

    @clock_step_ms.setter
    def clock_step_ms(self, int64_t step_ms):
        self.notes.clock_step_ms = step_ms

    @property
    def is_incomplete(self):
        return self.notes.is_incomplete

    def take(self):
        cdef bytes frames
        end_batch(&self.notes)
        frames = self.notes.at[:self.notes.n_bytes] if self.notes.n_bytes else b""
        self.notes.n_bytes = 0
        self.notes.is_incomplete = False
        return frames


cdef inline char* reserve(Notes* notes, size_t n_bytes) noexcept nogil:
    """Return where `n_bytes` may be written, or NULL if there is no memory."""
    cdef size_t size = max(notes.size, <size_t>4096)
    cdef void* at
    while size < notes.n_bytes + n_bytes:
        size *= 2
    if size > notes.size:
        at = realloc(notes.at, size)
        if at == NULL:
            return NULL
        notes.at, notes.size = <char*>at, size
    return notes.at + notes.n_bytes


cdef inline void end_batch(Notes* notes) noexcept nogil:
    """Write the number of hits into the head of the open batch."""
    cdef char head[5]
    if notes.n_hits:
        big_endian(head, 0xDD, <unsigned long long>notes.n_hits, 4)
        memcpy(notes.at + notes.batch + COUNT_AT, head, 5)
        notes.n_hits = 0


cdef void note_written(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil:
    """Append a hit to the open batch, or a leave behind it."""
    cdef Notes* notes = <Notes*>to
    cdef size_t n = 0
    cdef char* out = reserve(notes, hit.user.n_bytes + hit.url.n_bytes + REST_BYTES)
    if out == NULL:
        notes.is_incomplete = True
        return
    if hit.kind == <int>DEPARTED:
        end_batch(notes)
        memcpy(out, b"\x93\x02\xa5LEAVE\x92", 9)
        n = 9 + pack_text(out + 9, hit.user)
        n += pack_int(out + n, seen_ms + notes.clock_step_ms)
        notes.n_bytes += n
        return
    if notes.n_hits == 0:
        notes.batch = notes.n_bytes
        memcpy(out, BATCH_HEAD, HEAD_BYTES)
        n = HEAD_BYTES
    n += pack_array(out + n, 4)
    n += pack_text(out + n, hit.user)
    n += pack_text(out + n, hit.url)
    n += pack_int(out + n, seen_ms + notes.clock_step_ms)
    memcpy(out + n, KINDS[hit.kind], KIND_BYTES)
    notes.n_bytes += n + KINDS_BYTES[hit.kind]
    notes.n_hits += 1


cdef struct Noting:
    Watch watch                                          # the first, so that it stands for the struct
    void* changed

cdef class Changed:
    """The urls of pages that have gained or lost a session, and whether anybody came, moved or went at all."""

    cdef Index _index
    cdef Noting noting
    cdef set urls
    cdef bint has_changed
    cdef readonly bint is_incomplete

    def __init__(self, Index index not None):
        self.close()
        self.urls = set()
        self._index = index
        self.noting.changed = <void*>self
        self.noting.watch.changed = note_changed
        core_watch(&index.core, &self.noting.watch)

    def close(self):
        if self._index is not None:
            core_unwatch(&self._index.core, &self.noting.watch)
        self._index = None

    def __dealloc__(self):
        self.close()

    def take(self):
        taken = (self.has_changed, frozenset(self.urls))
        self.urls.clear()
        self.has_changed = self.is_incomplete = False
        return taken


cdef void note_changed(Watch* watch, ref_t page, int kind, int by) noexcept with gil:
    cdef Changed self = <Changed>(<Noting*>watch).changed
    self.has_changed = True
    if page == NO_REF:
        return
    try:
        self.urls.add(bytes_from(name_of(&self._index.core.skiplist, page)))
    except MemoryError:
        self.is_incomplete = True
