"""Observers of an index: what was written to it, and what changed in it.

Its job: to note both, in order, while hits are carried out, for whoever takes it between two turns (a journal, a bus,
push). Not its job: where it goes then. An index without an observer pays one test a hit for each.

Invariants:
1. Every hit and leave that made a session is noted, whichever way it came; what the rules ignored or refused is not.
2. What is noted is as it was applied: its time is settled, so that a replay does not depend on a clock.
3. An observer that could not note something, for want of memory, says so (`is_incomplete`) until that is taken.
"""

from collections import deque

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport Hit, Watch, core_unwatch, core_watch
from online.core.index cimport Index, bytes_from
from online.core.notes cimport Notes, notes_end_batch, notes_reserve, notes_written
from online.core.skiplist cimport name_of
from online.core.slots cimport N_SLOTS, slot_of

cdef enum:
    PIECE_BYTES = 64 * 1024                              # of an entry: who applies it needs half a millisecond


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
        notes_end_batch(&self.notes)
        frames = self.notes.at[:self.notes.n_bytes] if self.notes.n_bytes else b""
        self.notes.n_bytes = 0
        self.notes.is_incomplete = False
        return frames


cdef void note_written(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil:
    notes_written(<Notes*>to, hit, seen_ms)


# What is written to many indexes

cdef struct Pack:
    Notes notes                                          # SITE, hits and leaves; SITE, ...
    void* current                                        # the site that was named last; NULL: none
    int64_t n_hits                                       # hits and leaves
    bint is_paused
    void* trail

cdef struct Branches:
    # The packs of several trails: which is a hit's, says its user's slot.
    Pack* packs[N_SLOTS]                                 # by slot

cdef struct Way:
    # From an index to a pack.
    Pack* pack
    Branches* branches                                   # or to one of these
    const char* leading                                  # a frame: SITE name
    size_t leading_bytes


cdef class _Followed:
    """Keeps an index and the name of its site as long as C code points at them."""

    cdef Way way
    cdef Index index
    cdef bytes leading

    def __init__(self, Index index not None, bytes leading not None):
        if index.core.written != NULL:
            raise ValueError("somebody observes what is written to this index already")
        self.index = index
        self.leading = leading
        self.way.leading = leading
        self.way.leading_bytes = len(leading)

    cdef _Followed into(self, Pack* pack):
        self.way.pack = pack
        self.index.core.written_to = &self.way
        self.index.core.written = note_in_pack
        return self

    cdef _Followed into_one_of(self, Branches* branches):
        self.way.branches = branches
        self.index.core.written_to = &self.way
        self.index.core.written = note_in_branch
        return self

    def __dealloc__(self):
        if self.index is not None:
            self.index.core.written = NULL
            self.index.core.written_to = NULL


cdef class Trail:
    """Frames of what is written to the indexes of many sites, in one sequence, as a bus has them."""

    cdef Pack pack
    cdef list followed
    cdef object pieces                                   # that are complete: (frames, hits)
    cdef size_t piece_bytes                              # of these
    cdef int64_t piece_hits
    cdef public object begun

    def __init__(self):
        self.followed = []
        self.pieces = deque()
        self.pack.trail = <void*>self

    def __dealloc__(self):
        free(self.pack.notes.at)

    def follow(self, Index index not None, bytes leading not None):
        self.followed.append(_Followed(index, leading).into(&self.pack))

    def close(self):
        self.followed.clear()

    @property
    def is_paused(self):
        return self.pack.is_paused

    @is_paused.setter
    def is_paused(self, bint is_paused):
        self.pack.is_paused = is_paused

    @property
    def clock_step_ms(self):
        return self.pack.notes.clock_step_ms

    @clock_step_ms.setter
    def clock_step_ms(self, int64_t step_ms):
        self.pack.notes.clock_step_ms = step_ms

    @property
    def is_incomplete(self):
        return self.pack.notes.is_incomplete

    @property
    def n_bytes(self):
        return self.piece_bytes + self.pack.notes.n_bytes

    @property
    def n_hits(self):
        return self.piece_hits + self.pack.n_hits

    @property
    def has_piece(self):
        return len(self.pieces) > 0

    def take(self):
        if not self.pieces:
            self.end_piece()
        if not self.pieces:
            return b"", 0
        frames, n_hits = self.pieces.popleft()
        self.piece_bytes -= len(frames)
        self.piece_hits -= n_hits
        return frames, n_hits

    cdef int end_piece(self) except -1:
        """Put what was noted aside, as a whole."""
        cdef Notes* notes = &self.pack.notes
        cdef bytes frames
        if notes.n_bytes:
            notes_end_batch(notes)
            frames = notes.at[:notes.n_bytes]
            self.pieces.append((frames, self.pack.n_hits))
            self.piece_bytes += notes.n_bytes
            self.piece_hits += self.pack.n_hits
        notes.n_bytes = 0
        self.pack.current = NULL
        self.pack.n_hits = 0
        return 0

    def note(self, bytes frames not None):
        cdef Notes* notes = &self.pack.notes
        cdef char* out
        notes_end_batch(notes)
        out = notes_reserve(notes, len(frames))
        if out == NULL:
            return
        if notes.n_bytes == 0:
            tell_begun(&self.pack)
        memcpy(out, <const char*>frames, len(frames))
        notes.n_bytes += len(frames)
        self.pack.current = NULL                         # what follows names its site again

    def forget_incomplete(self):
        self.pack.notes.is_incomplete = False


cdef class Fork:
    """Several trails, of which each has the hits of the users of some slots."""

    cdef Branches branches
    cdef list followed
    cdef tuple trails                                    # keeps the packs

    def __init__(self, trails, owners):
        self.followed = []
        self.change(trails, owners)

    def change(self, trails, owners):
        cdef int slot
        cdef Trail trail
        cdef tuple given = tuple(trails)
        if len(owners) != N_SLOTS or not all([0 <= owner < len(given) for owner in owners]):
            raise ValueError(f"{N_SLOTS} slots need an owner each, one of {len(given)}")
        for slot in range(N_SLOTS):
            trail = given[owners[slot]]
            self.branches.packs[slot] = &trail.pack
        self.trails = given

    def follow(self, Index index not None, bytes leading not None):
        self.followed.append(_Followed(index, leading).into_one_of(&self.branches))

    def close(self):
        self.followed.clear()


cdef void note_in_pack(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil:
    note_by_way(<Way*>to, (<Way*>to).pack, hit, seen_ms)


cdef void note_in_branch(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil:
    note_by_way(<Way*>to, (<Way*>to).branches.packs[slot_of(hit.user)], hit, seen_ms)


cdef inline void note_by_way(Way* way, Pack* pack, const Hit* hit, int64_t seen_ms) noexcept nogil:
    cdef char* out
    if pack.is_paused:
        return
    if pack.current != way:
        notes_end_batch(&pack.notes)
        out = notes_reserve(&pack.notes, way.leading_bytes)
        if out == NULL:
            return
        if pack.notes.n_bytes == 0:
            tell_begun(pack)
        memcpy(out, way.leading, way.leading_bytes)
        pack.notes.n_bytes += way.leading_bytes
        pack.current = way
    pack.n_hits += 1
    notes_written(&pack.notes, hit, seen_ms)
    if pack.notes.n_bytes >= PIECE_BYTES:
        tell_full(pack)


cdef void tell_full(Pack* pack) noexcept with gil:
    try:
        (<Trail>pack.trail).end_piece()
    except MemoryError:
        pack.notes.is_incomplete = True                  # the piece goes on to grow


cdef void tell_begun(Pack* pack) noexcept with gil:
    cdef Trail trail = <Trail>pack.trail
    if trail.begun is not None:
        trail.begun()


# What has changed

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
