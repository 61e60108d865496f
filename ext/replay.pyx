"""Records of a journal or snapshot, and entries of a bus -> indexes. Contracts stand in replay.pyi.

Its job: to take records apart, to see that they are whole and of the shape that we write, and to apply their hits.
Not its job: files and their names (keep), and what is done about damage.

Hits of many small records are applied side by side, as those of a large batch are.

Invariants:
1. Nothing of a record is applied before its checksum was found right. An entry of a bus has none: what stands in it
   before something bad is applied.
2. Hits and leaves of a site are applied in the order in which they stand.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from online.errors import FullError
from online.terms import KINDS

from online.core.ahead cimport core_hits
from online.core.codec cimport COMPLETE, NUMBER, TEXT
from online.core.core cimport BAD_USER, HITS_AT_ONCE, Hit, Outcome, Tally, core_advance, core_hit
from online.core.index cimport Index, bytes_from, name_from
from online.core.journal cimport RECORD_HEAD, read_word, record_checksum
from online.core.msgpack_values cimport ARRAY, SCALAR, Token, read_token
from online.core.skiplist cimport DEPARTED, Name, same_name
from online.core.slots cimport owns

__all__ = ["MAX_RECORD_BYTES", "Replay", "frames_of"]

cdef enum:
    MOST_BYTES = 16 * 1024 * 1024                        # no record that we write is longer
    SITE_BYTES = 8                                       # of a frame SITE before the name
    TOTALS = 10                                          # numbers of them

MAX_RECORD_BYTES = MOST_BYTES

cdef enum Found:
    WHOLE
    PART                                                 # the rest of it is not there
    BAD

cdef list KIND_TEXTS = [kind.encode() for kind in KINDS]
cdef bytes DUMP_TEXT = b"dump"
cdef Name DUMP = name_from(DUMP_TEXT)


cdef Found find_record(const char* at, size_t n, int64_t segment, int64_t offset, size_t* n_bytes) noexcept nogil:
    """Look at what stands at `at`; of a whole record or a part, give the length of its frames."""
    cdef uint32_t checksum
    if n < RECORD_HEAD:
        return PART
    n_bytes[0] = read_word(at)
    if not 0 < n_bytes[0] <= MOST_BYTES:
        return BAD
    if n - RECORD_HEAD < n_bytes[0]:
        return PART
    checksum = read_word(at + 4)
    if checksum != record_checksum(at + RECORD_HEAD, n_bytes[0], segment, offset):
        return BAD
    return WHOLE


def frames_of(const uint8_t[::1] data not None, int64_t segment, int64_t offset):
    cdef size_t n_bytes = 0
    if data.shape[0] == 0:
        return None
    if find_record(<const char*>&data[0], data.shape[0], segment, offset, &n_bytes) != WHOLE:
        return None
    return bytes(data[RECORD_HEAD:RECORD_HEAD + n_bytes])


cdef class Replay:
    cdef object host
    cdef Index index
    cdef bytes name                                      # of the site; None before the first
    cdef bytes leading                                   # the frame that named it
    cdef bytes noted                                     # the totals of the site that were read last; or None
    cdef int64_t n_since                                 # hits and leaves of the site since then
    cdef dict totals_of                                  # (noted, n_since) of the other sites
    cdef Hit hits[HITS_AT_ONCE]
    cdef int n_hits
    cdef int64_t now_ms
    cdef int64_t latest_ms                               # wall time; what is later is taken as of then
    cdef bint is_entry                                   # it is of a bus, and index time may be behind it
    cdef bint is_echo                                    # what it holds was counted before
    cdef bint is_dump                                    # it says again what somebody knew
    cdef public int64_t clock_step_ms
    cdef readonly int64_t clamped
    cdef readonly bint is_bad
    cdef readonly int64_t records
    cdef readonly int64_t n_applied
    cdef readonly int64_t refused
    cdef readonly int64_t ties
    cdef readonly int64_t foreign
    cdef readonly int64_t first_ms
    cdef readonly int64_t last_ms

    def __init__(self, host not None, *, int64_t clock_step_ms=0):
        self.host = host
        self.clock_step_ms = clock_step_ms
        self.first_ms = INT64_MAX
        self.latest_ms = INT64_MAX
        self.totals_of = {}

    def feed(self, const uint8_t[::1] data not None, int64_t segment, int64_t offset, *, int64_t now_ms):
        cdef size_t used = 0, n = data.shape[0], n_bytes = 0
        cdef const char* at = <const char*>&data[0] if n else NULL
        cdef Found found = PART
        self.now_ms = now_ms
        self.n_hits = 0  # what an error has left stood in other bytes
        self.is_bad = False
        while used < n:
            found = find_record(at + used, n - used, segment, offset + used, &n_bytes)
            if found != WHOLE:
                break
            if not self.take(at + used + RECORD_HEAD, n_bytes):
                found = BAD
                break
            self.records += 1
            used += RECORD_HEAD + n_bytes
        self.settle()
        self.is_bad = found == BAD
        return used

    def apply(
            self, const uint8_t[::1] frames not None, *, int64_t now_ms, int64_t latest_ms, bint is_echo=False):
        cdef size_t n = frames.shape[0]
        cdef const char* at = <const char*>&frames[0] if n else NULL
        cdef bint is_good = n > SITE_BYTES and memcmp(at, b"\x93\x02\xa4SITE\x91", SITE_BYTES) == 0
        self.now_ms = now_ms
        self.latest_ms = latest_ms
        self.is_entry = True
        self.is_echo = is_echo
        try:
            is_good = is_good and self.take(at, n)
            self.settle()
        finally:
            self.n_hits = 0
            self.latest_ms = INT64_MAX
            self.is_entry = self.is_echo = self.is_dump = False
        return is_good

    def totals(self):
        if self.name is not None:
            self.totals_of[self.name] = self.noted, self.n_since
        return {
            name: ([int(number) for number in noted.split()], n_since)
            for name, (noted, n_since) in self.totals_of.items() if noted is not None
        }

    cdef bint take(self, const char* at, size_t n) except -1:
        """Apply the frames of a record, and return whether they are of the shape that we write."""
        cdef const char* end = at + n
        cdef const char* frame
        cdef Name text
        cdef size_t n_leading = 0 if self.leading is None else len(self.leading)
        if n_leading and n >= n_leading and memcmp(at, <const char*>self.leading, n_leading) == 0:
            at += n_leading
        while at < end:
            if begins(&at, end, b"\x93\x02\xa4hits", 7):
                if not self.take_hits(&at, end):
                    return False
            elif begins(&at, end, b"\x93\x02\xa5LEAVE\x92", 9):
                if not self.take_leave(&at, end):
                    return False
            elif begins(&at, end, b"\x93\x02\xa4SITE\x91", SITE_BYTES):
                frame = at - SITE_BYTES
                if not read_text(&at, end, &text):
                    return False
                self.leading = None  # should there be no memory for the site
                self.speak_of(bytes_from(text))
                self.leading = frame[:at - frame]
            elif begins(&at, end, b"\x93\x02\xa4ECHO\x91", 8):
                if not read_text(&at, end, &text):
                    return False
                if text.n_bytes > 7 and memcmp(text.at, b"totals ", 7) == 0:
                    if not are_totals(text.at[7:text.n_bytes]):
                        return False
                    self.noted = text.at[7:text.n_bytes]
                    self.n_since = 0
                elif self.is_entry and same_name(text, DUMP):
                    self.settle()
                    self.is_dump = True
                else:
                    self.settle()
                    self.host.noted(bytes_from(text))
            else:
                return False
        return True

    cdef bint take_hits(self, const char** at, const char* end) except -1:
        cdef Token token
        cdef int64_t _i
        cdef Hit* hit
        cdef Name kind
        if read_token(&token, <const uint8_t*>at[0], end - at[0]) != COMPLETE or token.type != ARRAY:
            return False
        at[0] += token.size
        self.n_since += token.n
        for _i in range(token.n):
            hit = &self.hits[self.n_hits]
            if end - at[0] < 1 or at[0][0] != <char>0x94:
                return False
            at[0] += 1
            if not (read_text(at, end, &hit.user) and read_text(at, end, &hit.url)
                    and self.read_time(at, end, &hit.seen_ms) and read_text(at, end, &kind)):
                return False
            hit.kind = kind_of(kind)
            if hit.kind < 0:
                return False
            self.n_hits += self.is_ours(hit.user)
            if self.n_hits == HITS_AT_ONCE:
                self.settle()
        return True

    cdef bint take_leave(self, const char** at, const char* end) except -1:
        cdef Hit hit
        cdef Tally tally
        if not (read_text(at, end, &hit.user) and self.read_time(at, end, &hit.seen_ms)):
            return False
        hit.kind = DEPARTED
        hit.url.n_bytes = 0
        self.n_since += 1
        if not self.is_ours(hit.user):
            return True
        self.settle()
        self.n_applied += 1
        if self.index is None:
            self.refused += 1
        else:
            tally = self.index.core.tally
            self.reach(hit.seen_ms)
            self.index.core.ties_by_rank = self.is_dump
            self.refused += core_hit(&self.index.core, &hit) >= BAD_USER
            self.index.core.ties_by_rank = False
            self.count(&tally)
        return True

    cdef inline bint is_ours(self, Name user) noexcept:
        """Whether hits of this user are to be applied: those of users who are another server's are passed over."""
        if self.index is None or self.index.core.owned == NULL or owns(self.index.core.owned, user):
            return True
        self.foreign += 1
        return False

    cdef bint read_time(self, const char** at, const char* end, int64_t* seen_ms) noexcept:
        cdef Token token
        if read_token(&token, <const uint8_t*>at[0], end - at[0]) != COMPLETE:
            return False
        if token.type != SCALAR or token.arg.type != NUMBER:
            return False
        at[0] += token.size
        if token.arg.number > self.latest_ms:
            token.arg.number = self.latest_ms
            self.clamped += 1
        self.first_ms = min(self.first_ms, token.arg.number)
        self.last_ms = max(self.last_ms, token.arg.number)
        seen_ms[0] = token.arg.number - self.clock_step_ms
        return True

    cdef int speak_of(self, bytes name) except -1:
        """Let what follows be of this site. Where there is no room for it, its hits are refused."""
        self.settle()
        if self.name is not None:
            self.totals_of[self.name] = self.noted, self.n_since
        self.noted, self.n_since = self.totals_of.get(name, (None, 0))
        self.name = name
        try:
            self.index = self.host.open(name)
        except FullError:
            self.index = None
            return 0
        core_advance(&self.index.core, self.now_ms)
        return 0

    cdef int settle(self) except -1:
        """Apply the hits that were read."""
        cdef Outcome outcomes[HITS_AT_ONCE]
        cdef Tally tally
        cdef int i
        if self.n_hits == 0:
            return 0
        self.n_applied += self.n_hits
        if self.index is None:
            self.refused += self.n_hits
        else:
            tally = self.index.core.tally
            for i in range(self.n_hits):
                self.reach(self.hits[i].seen_ms)
            self.index.core.ties_by_rank = self.is_dump
            core_hits(&self.index.core, self.hits, self.n_hits, outcomes)
            self.index.core.ties_by_rank = False
            for i in range(self.n_hits):
                self.refused += outcomes[i] >= BAD_USER
            self.count(&tally)
        self.n_hits = 0
        return 0

    cdef inline void reach(self, int64_t seen_ms) noexcept:
        """Let index time be no earlier than a hit of the bus: all replicas keep the same time of it.

        It is later than ours by what two clocks differ, which `latest_ms` bounds.
        """
        if self.is_entry and seen_ms > self.index.core.now_ms:
            core_advance(&self.index.core, seen_ms)

    cdef inline void count(self, const Tally* before) noexcept:
        """Count ties, and forget what was counted of an echo or a dump, but for sessions that it expired."""
        cdef int64_t expired = self.index.core.tally.expired
        self.ties += self.index.core.tally.tied - before.tied
        if self.is_echo or self.is_dump:
            self.index.core.tally = before[0]
            self.index.core.tally.expired = expired


cdef inline bint begins(const char** at, const char* end, const char* what, size_t n) noexcept nogil:
    """Step over `what` if it stands there."""
    if <size_t>(end - at[0]) < n or memcmp(at[0], what, n):
        return False
    at[0] += n
    return True


cdef inline bint read_text(const char** at, const char* end, Name* text) noexcept nogil:
    """Read text that is there as a whole, and step over it."""
    cdef Token token
    if read_token(&token, <const uint8_t*>at[0], end - at[0]) != COMPLETE:
        return False
    if token.type != SCALAR or token.arg.type != TEXT or <size_t>(end - at[0]) < token.size:
        return False
    text[0] = token.arg.text
    at[0] += token.size
    return True


cdef bint are_totals(bytes text) except -1:
    """Whether these are so many numbers as `pack_totals` writes."""
    cdef list numbers = text.split()
    return len(numbers) == TOTALS and all([number.isdigit() and len(number) < 19 for number in numbers])


cdef int kind_of(Name text) noexcept:
    cdef int kind = 0
    for name in KIND_TEXTS:
        if same_name(text, name_from(name)):
            return kind
        kind += 1
    return -1
