"""Observers of an index: what was written to it, and what changed in it.

Its job: to note both, in order, while hits are carried out, for whoever takes it between two turns (a journal, a bus,
push). Not its job: where it goes then. An index without an observer pays one test a hit for each.

Invariants:
1. Every hit and leave that made a session is noted, whichever way it came; what the rules ignored or refused is not.
2. What is noted is as it was applied: its time is settled, so that a replay does not depend on a clock.
3. An observer that could not note something, for want of memory, says so (`is_incomplete`) until that is taken.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport Hit, Watch, core_unwatch, core_watch
from online.core.index cimport Index, bytes_from
from online.core.notes cimport Notes, notes_end_batch, notes_written
from online.core.skiplist cimport name_of


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
