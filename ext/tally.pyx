"""Counts what lines of logs say beside page views: statuses, agents, referrers, and who is a bot or a member.

Its job: to count, by what was said of the same part before. Not its job: what is said of a part (reading), and what a
page view is (usual).

1. A count stands in the slot of a known part, and goes to `counts` with it. So a total is exact, whatever is forgotten.
2. Beside totals, bots and members, memory is bounded.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memchr

from online.core.checksum cimport checksum_add
from online.core.known cimport (
    MOST_KEY_BYTES, SLOTS_A_SET, Slot, Text, add, known_begin, known_end, put, set_of, slot_of_text, text_of,
)
from online.core.logfields cimport Fields
from online.core.skiplist cimport Name

cdef enum:
    MOST_SETS = 2048                                     # 8,192 different agents, and as many referrers


cdef class Tally:
    def __cinit__(self):
        known_begin(&self.known, MOST_SETS)
        self.counts = {}

    def __dealloc__(self):
        known_end(&self.known)

    cdef bint has(self, const Text* key) noexcept:
        """Count what is known of a part; return if anything is. O(length)."""
        cdef Slot* slot = slot_of_text(&self.known, key)
        if slot == NULL:
            return False
        slot.n += 1
        return True

    cdef int learn(self, const Text* key, what) except -1:
        """Count what is said of a part that is not known, and remember it. O(length)."""
        cdef Slot* oldest
        if key.n_bytes >= MOST_KEY_BYTES:
            self.count(what, 1)
            return 0
        oldest = set_of(&self.known, checksum_add(0, key.at, key.n_bytes)) + SLOTS_A_SET - 1
        self.settle(oldest)
        put(&self.known, key.at, key.n_bytes, what).n = 1
        return 0

    cdef int count(self, what, uint32_t n) except -1:
        self.counts[what] = self.counts.get(what, 0) + n
        return 0

    cdef int settle(self, Slot* slot) except -1:
        if slot.key != NULL and slot.n:
            self.count(<object>slot.verdict, slot.n)
            slot.n = 0
        return 0

    cdef int settle_all(self) except -1:
        """Let all that was counted stand in `counts`. O(known parts)."""
        cdef size_t i
        for i in range(<size_t>self.known.n_sets * SLOTS_A_SET):
            self.settle(&self.known.slots[i])
        return 0


cdef inline bint has_zero(Name text) noexcept:
    return text.n_bytes and memchr(text.at, 0, text.n_bytes) != NULL


cdef class LineTally:
    def __cinit__(self, status_of, agent_of, host_of):
        self.status_of, self.agent_of, self.host_of = status_of, agent_of, host_of
        self.statuses, self.agents, self.referrers = Tally(), Tally(), Tally()
        self.bots, self.members = set(), set()

    cdef int take_status(self, const Fields* fields) except -1:
        """Count the status of a line, if it has one."""
        cdef Text key
        if fields.status.n_bytes:
            key.n_bytes = 0
            add(&key, fields.status)
            if not self.statuses.has(&key):
                self.statuses.learn(&key, self.status_of(text_of(fields.status)))
        return 0

    cdef int take_view(self, const Fields* fields, user, kind) except -1:
        """Count a page view; return if it is a hit: one of a bot is not."""
        cdef Text key
        if kind == "bot":
            self.bot_hits += 1
            self.bots.add(user)
            return False
        if kind == "member" or kind == "hidden":         # both are signed in
            self.member_hits += 1
            self.members.add(user)
        key.n_bytes = 0
        add(&key, fields.agent)
        if not self.agents.has(&key):
            self.agents.learn(&key, self.agent_of(text_of(fields.agent)))
        if fields.referrer.n_bytes > 1:                  # not `-`
            self.take_referrer(fields)
        return True

    cdef int take_referrer(self, const Fields* fields) except -1:
        cdef Text key
        cdef Name url = fields.url
        if url.n_bytes and url.at[0] == c'/':            # it does not tell its host
            url.n_bytes = 0
        key.n_bytes = 0
        add(&key, url)
        add(&key, fields.host)
        add(&key, fields.referrer)
        if has_zero(url) or has_zero(fields.host):       # this may be the key of others, too
            key.n_bytes = MOST_KEY_BYTES
        if not self.referrers.has(&key):
            self.referrers.learn(
                &key, self.host_of(text_of(fields.referrer), text_of(fields.url), text_of(fields.host)))
        return 0

    def take(self):
        cdef Tally each
        cdef list tallies = [self.statuses, self.agents, self.referrers]
        for each in tallies:
            each.settle_all()
        taken = (self.statuses.counts, self.agents.counts, self.referrers.counts, self.bots, self.members,
                 self.bot_hits, self.member_hits)
        fresh = {}, {}, {}, set(), set()
        # From here on nothing needs memory.
        self.statuses.counts, self.agents.counts, self.referrers.counts, self.bots, self.members = fresh
        self.bot_hits = self.member_hits = 0
        return taken
