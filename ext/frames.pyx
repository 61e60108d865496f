"""Frames without a connection: the sessions of an index as frames, and frames of hits to an index.

The same bytes as on the wire: for files, and for hits that come by other ways than a client. Not its job: where the
frames go or come from.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from online import errors
from online.errors import FramingError
from online.limits import Limits

from online.core.arena cimport NO_REF, ref_t
from online.core.arguments cimport kind_name
from online.core.msgpack_values cimport pack_array, pack_int, pack_text
from online.core.connection cimport MSGPACK, Connection, Service, connection_speak
from online.core.core cimport Core, core_later, core_oldest, core_seen_ms
from online.core.index cimport Index, name_from
from online.core.skiplist cimport DEPARTED, Name, Record, name_of, record_at

__all__ = ["apply_hits", "dump"]


def dump(Index index not None, *, int64_t clock_step_ms=0, int frame_bytes=65_536):
    cdef ref_t session
    cdef bint named
    hits = bytearray()
    leaves = bytearray()
    n_hits = 0
    for named in (True, False):
        session = core_oldest(&index.core, named)
        while session != NO_REF:
            if record_at(&index.core.skiplist, session).kind == DEPARTED:
                leaves += pack_session(&index.core, session, clock_step_ms)
            else:
                hits += pack_session(&index.core, session, clock_step_ms)
                n_hits += 1
            if len(hits) >= frame_bytes or n_hits == 4096:
                yield batch_head(n_hits) + bytes(hits)
                hits.clear()
                n_hits = 0
            if len(leaves) >= frame_bytes:
                yield bytes(leaves)
                leaves.clear()
            session = core_later(&index.core, session, named)
    if n_hits:
        yield batch_head(n_hits) + bytes(hits)
    if leaves:
        yield bytes(leaves)


cdef bytes batch_head(int n_hits):
    """Return the head of a notification of so many hits."""
    cdef char head[16]
    return b"\x93\x02\xa4hits" + head[:pack_array(head, n_hits)]


cdef bytes pack_session(Core* core, ref_t session, int64_t clock_step_ms):
    """Return a session as an item of a batch; a departed one as a whole LEAVE notification."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef Name user = name_of(&core.skiplist, session)
    cdef Name url
    cdef bint is_departed = record.kind == DEPARTED
    cdef bytes packed
    cdef char* out
    cdef size_t n = 0
    url.n_bytes = 0
    if not is_departed:
        url = name_of(&core.skiplist, record.page)
    packed = bytes(user.n_bytes + url.n_bytes + 64)
    out = packed
    if is_departed:
        memcpy(out, b"\x93\x02\xa5LEAVE\x92", 9)
        n = 9
    else:
        n = pack_array(out, 4)
    n += pack_text(out + n, user)
    if not is_departed:
        n += pack_text(out + n, url)
    n += pack_int(out + n, core_seen_ms(core, session) + clock_step_ms)
    if not is_departed:
        n += pack_text(out + n, name_from(kind_name(record.kind)))
    return packed[:n]


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
