"""Frames without a connection: the sessions of an index as frames, and frames of hits to an index.

The same bytes as on the wire: for files, and for hits that come by other ways than a client. Not its job: where the
frames go or come from.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from online import errors
from online.errors import FramingError
from online.limits import Limits

from online.core.arena cimport NO_REF, ref_t
from online.core.connection cimport MSGPACK, Connection, Service, connection_speak
from online.core.core cimport Core, core_later, core_seen_ms
from online.core.index cimport Index
from online.core.notes cimport Notes, notes_end_batch, notes_hit, notes_leave
from online.core.skiplist cimport DEPARTED, Name, kind_at, name_of, record_at, skiplist_seek_time

__all__ = ["apply_hits", "dump"]

cdef enum:
    HITS_A_FRAME = 4096


cdef class Walk:
    """A walk over the sessions of an index, oldest first, that may rest while the index goes on.

    It keeps its place as the key in time of the session that it noted last, and finds it again by a search. A session
    that a hit moves meanwhile goes to where the walk still comes, or beyond its end: that is the index's time when the
    walk began. So a session that nobody wrote to meanwhile is noted once, and what was written is for a journal.
    """

    cdef Index index
    cdef Notes hits
    cdef Notes leaves
    cdef int64_t until_ms
    cdef bint named
    cdef bint is_begun
    cdef uint64_t key                                    # of the session noted last

    def __dealloc__(self):
        free(self.hits.at)
        free(self.leaves.at)

    cdef bint go_on(self, size_t most_bytes) except -1:
        """Note sessions until `most_bytes` of one sort are there, or HITS_A_FRAME; return whether there are more."""
        cdef Core* core = &self.index.core
        cdef ref_t head = core.named if self.named else core.unnamed
        cdef ref_t session = head
        if self.is_begun:
            session = skiplist_seek_time(&core.skiplist, head, self.key)
        session = core_later(core, session, self.named)
        while session != NO_REF and core_seen_ms(core, session) <= self.until_ms:
            note_session(self, core, session)
            self.key = record_at(&core.skiplist, session).key
            self.is_begun = True
            if (self.hits.n_bytes >= most_bytes or self.hits.n_hits == HITS_A_FRAME
                    or self.leaves.n_bytes >= most_bytes):
                return True
            session = core_later(core, session, self.named)
        if self.hits.is_incomplete or self.leaves.is_incomplete:
            raise MemoryError("no memory for frames of sessions")
        return False


cdef void note_session(Walk walk, const Core* core, ref_t session) noexcept:
    cdef int kind = kind_at(&core.skiplist, session)
    cdef ref_t page = record_at(&core.skiplist, session).page
    cdef Name user = name_of(&core.skiplist, session)
    cdef int64_t seen_ms = core_seen_ms(core, session)
    if kind == DEPARTED:
        notes_leave(&walk.leaves, user, seen_ms)
    else:
        notes_hit(&walk.hits, user, name_of(&core.skiplist, page), seen_ms, kind)


cdef bytes take(Notes* notes):
    """Return what was noted, as whole frames, and forget it."""
    cdef bytes frames
    notes_end_batch(notes)
    frames = notes.at[:notes.n_bytes]
    notes.n_bytes = 0
    return frames


def dump(Index index not None, *, int64_t clock_step_ms=0, size_t frame_bytes=65_536):
    cdef Walk walk = Walk()
    walk.index = index
    walk.until_ms = index.core.now_ms
    walk.hits.clock_step_ms = walk.leaves.clock_step_ms = clock_step_ms
    for walk.named in (True, False):
        walk.is_begun = False
        while walk.go_on(frame_bytes):
            yield take(&walk.leaves if walk.leaves.n_bytes >= frame_bytes else &walk.hits)
    if walk.hits.n_bytes:
        yield take(&walk.hits)
    if walk.leaves.n_bytes:
        yield take(&walk.leaves)


_UNBOUND = Limits(max_frame=2**40)


class _NoHost:
    """The host of a service that is fed hits alone."""

    def call(self, connection, verb, args, now_ms):
        raise errors.unknown_verb(verb.encode())

    def open_site(self, connection, now_ms):
        raise AssertionError("the index is there")


_hits_alone = None


def apply_hits(Index index not None, frames, *, int64_t now_ms):
    global _hits_alone
    if _hits_alone is None:
        _hits_alone = Service(_NoHost(), _UNBOUND)
    cdef Service service = _hits_alone
    cdef Connection connection = Connection(service, index)
    before = index.statistics()
    connection_speak(connection, MSGPACK)
    connection.receive(frames, now_ms=now_ms)
    while connection.has_work:
        connection.take_output()
        connection.proceed(now_ms=now_ms)
    if connection.is_closing or connection.in_frame or connection.is_misunderstood:
        raise FramingError("these are no whole frames of hits")
    after = index.statistics()
    return (
        after.accepted - before.accepted,
        after.late + after.stale - before.late - before.stale,
        after.refused - before.refused,
    )
