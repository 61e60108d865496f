"""The journal of hits: what was applied to the sites, in records, in one write(2) a turn. Contracts: journal.pyi.

Its job: to note hits and leaves while they are applied, to write what a turn has noted before its answers leave, and
to say which answers may leave. Not its job: files, their names, when they are synced and what follows an error
(serve/keeper.py), and reading (replay).

A turn, here, is what is noted between two writes: all that a round of the reactor has served, one step of a stream, or
the lines that syslog took together.

A record is

    length      4 bytes, little endian: of the frames
    checksum    4 bytes: CRC-32C of segment, offset and length (8 bytes each), then the frames
    frames      SITE name, then `hits` notifications, LEAVE, and ECHO with totals, exactly as on the wire

The checksum covers where the record stands, so that old bytes of a disk are never taken for a record.

Invariants:
1. A hit is noted after it was applied, and noting cannot fail the hit: what finds no memory fails the next flush.
2. What was noted of a turn is in the file, whole, before `durable_turn` reaches it; or it is lost, or the journal is
   off and nobody waits for it. With `waits_for_bus`, answers wait for `published_turn` as well; turns are then counted
   even if there is no file.
3. After a failed write nothing more goes to that file: nobody knows what of it has arrived.
4. A peak is written with the hit that made it.
"""

from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from online.core.checksum cimport checksum_add
from online.core.core cimport Core, Hit, Tally
from online.core.index cimport Index, name_from
from online.core.msgpack_values cimport pack_text
from online.core.notes cimport Notes, notes_end_batch, notes_reserve, notes_written

__all__ = ["HEAD_BYTES", "Journal", "record", "site", "totals"]

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void* at, size_t n_bytes)

cdef enum:
    RECORD_BYTES = 64 * 1024                             # a record that has so many is closed
    KEPT_BYTES = 1024 * 1024                             # of a buffer that has grown
    TOTALS_BYTES = 256
    ECHO_BYTES = 8                                       # of a frame ECHO before its text

HEAD_BYTES = RECORD_HEAD


# Records

cdef void close_head(char* at, size_t n_bytes, int64_t segment, int64_t offset) noexcept nogil:
    """Write length and checksum before `n_bytes` of frames at `at` + RECORD_HEAD."""
    cdef uint32_t words[2]
    words[0] = little_endian32(<uint32_t>n_bytes)
    words[1] = little_endian32(record_checksum(at + RECORD_HEAD, n_bytes, segment, offset))
    memcpy(at, words, RECORD_HEAD)


cdef uint32_t record_checksum(const char* frames, size_t n_bytes, int64_t segment, int64_t offset) noexcept nogil:
    cdef uint64_t place[3]
    place[0] = little_endian64(<uint64_t>segment)
    place[1] = little_endian64(<uint64_t>offset)
    place[2] = little_endian64(<uint64_t>n_bytes)
    return checksum_add(checksum_add(0, place, sizeof(place)), frames, n_bytes)


def record(bytes frames not None, int64_t segment, int64_t offset):
    cdef bytes made = bytes(RECORD_HEAD) + frames
    close_head(<char*>made, len(frames), segment, offset)
    return made


def site(bytes name not None):
    cdef bytes made = b"\x93\x02\xa4SITE\x91" + bytes(len(name) + 5)
    cdef size_t n = 8 + pack_text(<char*>made + 8, name_from(name))
    return made[:n]


cdef size_t pack_totals(char* out, const Core* core, int64_t clock_step_ms) noexcept nogil:
    """Write `ECHO "totals ..."`, at most TOTALS_BYTES, and return how many."""
    cdef const Tally* tally = &core.tally
    cdef int n = snprintf(
        out + 10, TOTALS_BYTES - 10, b"totals %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld", <long long>core.peak,
        <long long>(core.peak_at_ms + clock_step_ms if core.peak else 0), <long long>tally.accepted,
        <long long>tally.late, <long long>tally.stale, <long long>tally.skewed, <long long>tally.refused,
        <long long>tally.full[0], <long long>tally.full[1], <long long>tally.full[2])
    memcpy(out, b"\x93\x02\xa4ECHO\x91\xd9", 9)
    out[9] = <char>n
    return 10 + n


def totals(Index index not None, int64_t clock_step_ms=0):
    cdef char out[TOTALS_BYTES]
    return out[:pack_totals(out, &index.core, clock_step_ms)]


# Noting

cdef bint begin_record(Log* log, Track* track) noexcept nogil:
    """Close the open record and begin another; False if there is no memory."""
    cdef char* out
    end_record(log)
    out = notes_reserve(&log.notes, RECORD_HEAD + track.site_bytes)
    if out == NULL:
        return False
    log.record = log.notes.n_bytes
    memcpy(out + RECORD_HEAD, track.site, track.site_bytes)
    log.notes.n_bytes += RECORD_HEAD + track.site_bytes
    log.current = track
    if not track.is_touched:
        track.is_touched = True
        track.next_touched = log.touched
        log.touched = track
    return True


cdef void end_record(Log* log) noexcept nogil:
    cdef size_t n_bytes = log.notes.n_bytes - log.record - RECORD_HEAD
    if log.current == NULL:
        return
    notes_end_batch(&log.notes)
    close_head(log.notes.at + log.record, n_bytes, log.segment, log.offset + <int64_t>log.record)
    log.current = NULL


cdef void note_hit(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil:
    """Append what was applied to the open record of its site."""
    cdef Track* track = <Track*>to
    cdef Log* log = track.log
    if log.is_off:
        log.has_unwritten = True
        return
    if log.current != track or log.notes.n_bytes - log.record >= RECORD_BYTES:
        if not begin_record(log, track):
            return
    notes_written(&log.notes, hit, seen_ms)


cdef void note_track(Log* log, Track* track) noexcept nogil:
    """Append the totals of a site."""
    cdef char* out
    if log.current != track and not begin_record(log, track):
        return
    notes_end_batch(&log.notes)
    out = notes_reserve(&log.notes, TOTALS_BYTES)
    if out == NULL:
        return
    log.notes.n_bytes += pack_totals(out, track.core, log.notes.clock_step_ms)
    track.peak = track.core.peak
    track.tally = track.core.tally


cdef class _Followed:
    """Keeps a followed index and the name of its site as long as C code points at them."""

    cdef Track track
    cdef Index index
    cdef bytes site

    def __init__(self, Journal journal, Index index, bytes name):
        if index.core.journal != NULL:
            raise ValueError("this index has a journal already")
        self.index = index
        self.site = site(name)
        self.track.log = &journal.log
        self.track.core = &index.core
        self.track.site = self.site
        self.track.site_bytes = len(self.site)
        self.track.peak = index.core.peak
        self.track.tally = index.core.tally
        index.core.journal_to = &self.track
        index.core.journal = note_hit

    def __dealloc__(self):
        if self.index is not None:
            self.index.core.journal = NULL
            self.index.core.journal_to = NULL


cdef class Journal:
    def __cinit__(self):
        self.fd = -1
        self.log.is_off = True
        self.tracks = {}

    def __dealloc__(self):
        free(self.log.notes.at)

    @property
    def clock_step_ms(self):
        return self.log.notes.clock_step_ms

    def change_step(self, int64_t step_ms):
        if step_ms == self.log.notes.clock_step_ms:
            return
        self.flush_turn()
        self.log.notes.clock_step_ms = step_ms
        if self.stepped is not None and not self.log.is_off:
            self.stepped()

    @property
    def segment(self):
        return self.log.segment

    @property
    def offset(self):
        return self.log.offset

    @property
    def is_off(self):
        return self.log.is_off

    def follow(self, Index index not None, bytes name not None):
        self.tracks[name] = _Followed(self, index, name)

    def begin(self, int fd, int64_t segment, int64_t offset):
        self.flush_turn()
        self.fd = fd
        self.log.segment = segment
        self.log.offset = offset
        self.log.is_off = False

    def flush(self):
        self.flush_turn()

    def note(self, bytes text not None):
        cdef _Followed followed
        cdef char* out
        if self.log.is_off:
            return
        followed = next(iter(self.tracks.values()))
        if not begin_record(&self.log, &followed.track):
            return                                       # so the next flush fails
        notes_end_batch(&self.log.notes)
        out = notes_reserve(&self.log.notes, ECHO_BYTES + 5 + len(text))
        if out == NULL:
            return
        memcpy(out, b"\x93\x02\xa4ECHO\x91", ECHO_BYTES)
        self.log.notes.n_bytes += ECHO_BYTES + pack_text(out + ECHO_BYTES, name_from(text))

    def note_totals(self):
        cdef _Followed followed
        if self.log.is_off:
            return
        for followed in self.tracks.values():
            if memcmp(&followed.track.tally, &followed.track.core.tally, sizeof(Tally)):
                note_track(&self.log, &followed.track)

    cdef int flush_turn(self) except -1:
        """Write what was noted in this turn. O(bytes), one write(2)."""
        cdef Log* log = &self.log
        cdef Track* track
        if log.notes.n_bytes == 0 and not log.notes.is_incomplete:
            if log.has_unwritten and self.waits_for_bus:
                self.turn += 1
                self.durable_turn = self.turn            # as far as the disk goes: it is off
            log.has_unwritten = False
            return 0
        while log.touched != NULL:
            track = log.touched
            if track.core.peak != track.peak:
                note_track(log, track)
            log.touched = track.next_touched
            track.is_touched = False
        end_record(log)
        self.turn += 1
        if log.notes.is_incomplete:
            return self.fail(ENOMEM)
        if not write_all(self.fd, log.notes.at, log.notes.n_bytes):
            return self.fail(errno)
        log.offset += log.notes.n_bytes
        self.written_bytes += log.notes.n_bytes
        self.forget()
        if not self.waits_for_sync:
            self.durable_turn = self.turn
        elif self.wanted is not None:
            self.wanted()
        return 0

    cdef int fail(self, int code) except -1:
        """Give the file up; who is told decides by `give_up` what becomes of the answers."""
        self.fd = -1
        self.log.is_off = True
        if self.failed is not None:
            self.failed(code)
        if self.durable_turn < self.turn and self.lost_turn < self.turn:
            self.give_up(is_lost=False)
        return 0

    cdef void forget(self) noexcept:
        cdef Notes* notes = &self.log.notes
        notes.n_bytes = 0
        notes.n_hits = 0
        notes.is_incomplete = False
        self.log.current = NULL
        if notes.size > KEPT_BYTES:
            free(notes.at)
            notes.at, notes.size = NULL, 0

    def give_up(self, *, bint is_lost):
        self.fd = -1
        self.log.is_off = True
        self.forget()
        while self.log.touched != NULL:
            self.log.touched.is_touched = False
            self.log.touched = self.log.touched.next_touched
        if is_lost:
            self.lost_after, self.lost_turn = self.durable_turn, self.turn
        else:
            self.durable_turn = self.turn

    def synced(self, int64_t turn):
        self.durable_turn = max(self.durable_turn, min(turn, self.turn))

    def published(self, int64_t turn):
        self.published_turn = max(self.published_turn, min(turn, self.turn))

    def abandon(self):
        if self.published_turn < self.turn:
            self.lost_after, self.lost_turn = self.published_turn, self.turn

    cdef int fate(self, int64_t turn) noexcept:
        """Whether answers of a turn may leave (1), wait (0), or must not leave (-1)."""
        if self.lost_after < turn <= self.lost_turn:
            return -1
        return turn <= self.durable_turn and (turn <= self.published_turn or not self.waits_for_bus)

    def may_leave(self, int64_t turn):
        cdef int fate = self.fate(turn)
        return None if fate < 0 else fate == 1

    def close(self):
        self.flush_turn()
        self.give_up(is_lost=False)
        self.tracks.clear()


cdef bint write_all(int fd, const char* at, size_t n_bytes) noexcept nogil:
    """Write all bytes; False, with errno, if the file does not take them."""
    cdef ssize_t n
    while n_bytes:
        n = write(fd, at, n_bytes)
        if n < 0:
            if errno == EINTR:
                continue
            return False
        at += n
        n_bytes -= n
    return True
