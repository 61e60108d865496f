"""The people of a log: its page views, packed -> who was online when, how long they stayed, and what they looked at.

Its job: the figures of a report, in one pass. Not its job: reading logs, the server's index (index), and how figures
are shown.

The rules are those of the index, for hits in the order of a log: the current time is the latest that was read, a hit
outside the window is late, and one older than its user's newest is ignored. So who is online needs no order: for each
user the time of the newest hit, and for each second how many go offline then. A test holds this to the index, and to
the same figures in plain Python.

Invariants:
1. `ends[end_s % window_s]` counts the users who go offline at `end_s`, of `now_s < end_s <= now_s + window_s`; `people`
   is their number, `left_s` the sum of the time that they have left.
2. Hits that count are kept in blocks that begin at least a window apart. So whoever is online stands in the current
   block or in the one before, and the last hit of a user there is the newest.
3. Memory is bounded by the hits of four windows, the names of users and urls, and the number of days.
"""

import os

from libc.stdint cimport INT64_MAX, UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from online.core.skiplist cimport Name
from online.core.table cimport HashKey, siphash

cdef enum:
    LEAST_SLOTS = 1024
    LEAST_ITEMS = 256
    HOUR_MS = 3_600_000
    DAY_MS = 24 * HOUR_MS


cdef void* with_room(void* at, size_t* room, size_t n, size_t item_bytes) except NULL:
    """Return an array with room for `n` items, which may have moved. O(1) amortised."""
    cdef size_t wanted = max(room[0], <size_t>LEAST_ITEMS)
    if n <= room[0]:
        return at
    while wanted < n:
        wanted *= 2
    at = realloc(at, wanted * item_bytes)
    if at == NULL:
        raise MemoryError("no memory for the figures of a log")
    room[0] = wanted
    return at


# Names, numbered from 0 as they come

cdef struct Slot:
    uint32_t hash
    uint32_t number                                      # and 1 more; 0: the slot is empty

cdef struct Names:
    HashKey key
    Slot* slots
    uint32_t mask                                        # number of slots - 1; a power of two of them
    uint32_t n
    size_t* ends                                         # of each name, in `text`; it begins where the one before ends
    size_t ends_room
    char* text
    size_t text_room


cdef int names_begin(Names* names) except -1:
    cdef bytes secret = os.urandom(sizeof(HashKey))      # nobody chooses names that collide
    memcpy(&names.key, <const char*>secret, sizeof(HashKey))
    names.slots = <Slot*>calloc(LEAST_SLOTS, sizeof(Slot))
    if names.slots == NULL:
        raise MemoryError("no memory for the figures of a log")
    names.mask = LEAST_SLOTS - 1
    return 0


cdef void names_end(Names* names) noexcept:
    free(names.slots)
    free(names.ends)
    free(names.text)


cdef inline Name name_at(const Names* names, uint32_t number) noexcept:
    cdef size_t begin = names.ends[number - 1] if number else 0
    cdef Name name
    name.at = names.text + begin
    name.n_bytes = <uint32_t>(names.ends[number] - begin)
    return name


cdef inline void put_number(Slot* slots, uint32_t mask, Slot slot) noexcept:
    cdef uint32_t i = slot.hash & mask
    while slots[i].number:
        i = (i + 1) & mask
    slots[i] = slot


cdef int names_grow(Names* names) except -1:
    cdef uint32_t i, mask = 2 * names.mask + 1
    cdef Slot* slots
    if names.mask > UINT32_MAX // 4:
        raise MemoryError("too many names for the figures of a log")
    slots = <Slot*>calloc(<size_t>mask + 1, sizeof(Slot))
    if slots == NULL:
        raise MemoryError("no memory for the figures of a log")
    for i in range(names.mask + 1):
        if names.slots[i].number:
            put_number(slots, mask, names.slots[i])
    free(names.slots)
    names.slots, names.mask = slots, mask
    return 0


cdef int64_t number_of(Names* names, Name name) except -1:
    """Return the number of a name, which is new if it was `n`. O(length)."""
    cdef uint32_t hash = <uint32_t>siphash(names.key, name.at, name.n_bytes)
    cdef uint32_t i = hash & names.mask
    cdef Slot slot
    cdef Name known
    cdef size_t begin
    while names.slots[i].number:
        if names.slots[i].hash == hash:
            known = name_at(names, names.slots[i].number - 1)
            if known.n_bytes == name.n_bytes and memcmp(known.at, name.at, name.n_bytes) == 0:
                return names.slots[i].number - 1
        i = (i + 1) & names.mask
    if 4 * <size_t>names.n >= 3 * <size_t>names.mask:
        names_grow(names)
    begin = names.ends[names.n - 1] if names.n else 0
    names.ends = <size_t*>with_room(names.ends, &names.ends_room, names.n + 1, sizeof(size_t))
    names.text = <char*>with_room(names.text, &names.text_room, begin + name.n_bytes, 1)
    memcpy(names.text + begin, name.at, name.n_bytes)
    names.ends[names.n] = begin + name.n_bytes
    names.n += 1
    slot.hash, slot.number = hash, names.n
    put_number(names.slots, names.mask, slot)
    return names.n - 1


# Days, months and years

cdef struct Period:
    int32_t at                                           # 0: none
    int64_t hits
    int64_t users


cdef class Periods:
    """Counts hits and users by period. Users are known for the two latest periods: a hit that is more than a whole
    period late counts as a hit, but not as a user.
    """
    cdef Period newest, older
    cdef dict rows                                       # of all others: period -> hits and users

    def __cinit__(self):
        self.rows = {}

    cdef int add(self, int32_t at) except -1:
        """Count a hit. O(1)."""
        if at == self.newest.at:
            self.newest.hits += 1
        elif at == self.older.at:
            self.older.hits += 1
        else:
            hits, users = self.rows.get(at, (0, 0))
            self.rows[at] = hits + 1, users
        return 0

    cdef bint meet(self, int32_t at, int32_t* known) except -1:
        """Count a user, of whom `known` are the two latest periods; return if the period did not know the user. O(1).

        The lesser of `known` is one that is no longer open, or none: so it can be forgotten.
        """
        if at != self.newest.at and at != self.older.at:
            if at < self.older.at:
                return True
            self.begin(at)
        if known[0] == at or known[1] == at:
            return False
        known[known[1] < known[0]] = at
        if at == self.newest.at:
            self.newest.users += 1
        else:
            self.older.users += 1
        return True

    cdef int begin(self, int32_t at) except -1:
        cdef Period begun
        begun.at, begun.hits, begun.users = at, 0, 0
        if self.older.at:
            self.rows[self.older.at] = self.older.hits, self.older.users
        if at > self.newest.at:
            self.older, self.newest = self.newest, begun
        else:
            self.older = begun
        return 0

    cdef dict all(self):
        return self.rows | {
            period.at: (period.hits, period.users) for period in (self.older, self.newest) if period.at
        }


cdef int32_t month_of(int32_t day) noexcept:
    """Return the months since the year 0 of a day since 1970. Howard Hinnant, "chrono-Compatible Low-Level Date
    Algorithms" (2013): years begin in March, so that the leap day is the last.
    """
    cdef int32_t since = day + 719_468
    cdef int32_t era = since // 146_097
    cdef int32_t of_era = since - era * 146_097
    cdef int32_t year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    cdef int32_t of_year = of_era - (365 * year + year // 4 - year // 100)
    return 12 * (year + 400 * era) + (5 * of_year + 2) // 153 + 2


# Hits that count

cdef struct Seen:
    uint32_t user
    uint32_t url
    int64_t second


cdef class Block:
    cdef Seen* at
    cdef size_t n, room

    def __dealloc__(self):
        free(self.at)


cdef struct Visitor:
    int64_t newest_ms                                    # of the newest hit that counted; 0: none
    int64_t began_s                                      # of the newest stay: its first second, and its hits
    uint32_t n_hits
    uint32_t hours                                       # of the day, a bit each
    int32_t days[2]                                      # the two latest, see Periods
    int32_t months[2]
    int32_t years[2]


cdef const uint8_t* read_name(const uint8_t* at, const uint8_t* end, Name* name) noexcept:
    """Read bytes of MessagePack; return what follows, or NULL if there are none."""
    cdef ptrdiff_t n
    if end - at < 3 or (at[0] != 0xc4 and at[0] != 0xc5):
        return NULL
    n = at[1]
    at += 2
    if at[-2] == 0xc5:
        n = n << 8 | at[0]
        at += 1
    if end - at < n:
        return NULL
    name.at, name.n_bytes = <const char*>at, <uint32_t>n
    return at + n


cdef const uint8_t* read_hit(const uint8_t* at, const uint8_t* end, Name* user, Name* url, int64_t* seen_ms) noexcept:
    """Read an array of user, url, time and perhaps a kind; return what follows, or NULL if there is none."""
    cdef int i
    cdef int64_t number = 0
    cdef bint has_kind = at[0] == 0x94
    if not has_kind and at[0] != 0x93:
        return NULL
    at = read_name(at + 1, end, user)
    if at != NULL:
        at = read_name(at, end, url)
    if at == NULL or end - at < 9 + has_kind or at[0] != 0xcf or at[1] > 0x7f:
        return NULL
    for i in range(8):
        number = number << 8 | at[1 + i]
    seen_ms[0] = number
    at += 9
    if has_kind:
        if at[0] >> 5 != 5 or end - at < 1 + (at[0] & 31):
            return NULL
        at += 1 + (at[0] & 31)
    return at


cdef class Crowd:
    cdef readonly int64_t window_s, hits, late, first_ms, now_ms, most, most_at_ms
    cdef public int64_t peak
    cdef object advance
    cdef int64_t now_s, next_ms, begun_ms, people, left_s
    cdef uint32_t* ends
    cdef Names users, urls
    cdef Visitor* visitors
    cdef size_t visitors_room
    cdef int64_t* url_hits
    cdef size_t url_hits_room
    cdef Periods by_day, by_month, by_year
    cdef int64_t by_hour[24]
    cdef Block earlier, block, most_earlier, most_block
    cdef size_t most_n
    cdef int64_t block_ends_ms, n_stays, stayed_hits, n_single
    cdef dict lengths_s

    def __cinit__(self, int64_t window_s, advance):
        self.window_s, self.advance = window_s, advance
        self.first_ms = INT64_MAX
        names_begin(&self.users)
        names_begin(&self.urls)
        self.ends = <uint32_t*>calloc(window_s, sizeof(uint32_t))
        if self.ends == NULL:
            raise MemoryError("no memory for the figures of a log")
        self.by_day, self.by_month, self.by_year = Periods(), Periods(), Periods()
        self.earlier = self.block = self.most_earlier = self.most_block = Block()
        self.lengths_s = {}

    def __dealloc__(self):
        names_end(&self.users)
        names_end(&self.urls)
        free(self.ends)
        free(self.visitors)
        free(self.url_hits)

    def take(self, bytes items not None):
        cdef const uint8_t* at = <const uint8_t*>(<const char*>items)
        cdef const uint8_t* end = at + len(items)
        cdef Name user, url
        cdef int64_t seen_ms
        while at < end:
            at = read_hit(at, end, &user, &url, &seen_ms)
            if at == NULL:
                raise ValueError("these are no packed hits")
            self.hit(user, url, seen_ms)

    cdef int hit(self, Name user, Name url, int64_t seen_ms) except -1:
        cdef uint32_t user_number = <uint32_t>number_of(&self.users, user)
        cdef uint32_t url_number = <uint32_t>number_of(&self.urls, url)
        cdef int64_t second = seen_ms // 1000
        self.make_rows()
        cdef Visitor* visitor = &self.visitors[user_number]
        self.url_hits[url_number] += 1
        self.note(visitor, seen_ms)
        if seen_ms < self.first_ms:
            self.first_ms = seen_ms
        if seen_ms > self.now_ms:
            self.go_on(seen_ms)
        self.hits += 1
        if second <= self.now_ms // 1000 - self.window_s:
            self.late += 1
        elif seen_ms >= visitor.newest_ms:
            self.keep(user_number, url_number, second)
            self.extend(visitor.newest_ms // 1000 + self.window_s if visitor.newest_ms else 0, second + self.window_s)
            self.stay(visitor, second)
            visitor.newest_ms = seen_ms
            self.look()
        return 0

    cdef int make_rows(self) except -1:
        """Make what belongs to a new user and a new url."""
        cdef size_t n_users = self.visitors_room, n_urls = self.url_hits_room
        if self.users.n > n_users:
            self.visitors = <Visitor*>with_room(
                self.visitors, &self.visitors_room, self.users.n, sizeof(Visitor))
            memset(self.visitors + n_users, 0, (self.visitors_room - n_users) * sizeof(Visitor))
        if self.urls.n > n_urls:
            self.url_hits = <int64_t*>with_room(self.url_hits, &self.url_hits_room, self.urls.n, sizeof(int64_t))
            memset(self.url_hits + n_urls, 0, (self.url_hits_room - n_urls) * sizeof(int64_t))
        return 0

    cdef int note(self, Visitor* visitor, int64_t seen_ms) except -1:
        """Count a hit by day and hour."""
        cdef int32_t day = <int32_t>(seen_ms // DAY_MS)
        cdef int hour = <int>(seen_ms // HOUR_MS % 24)
        cdef int32_t month
        if self.by_day.meet(day, visitor.days):          # who is known to the day is known to its month and year
            month = month_of(day)
            self.by_month.meet(month, visitor.months)
            self.by_year.meet(month // 12, visitor.years)
        self.by_day.add(day)
        self.by_hour[hour] += 1
        visitor.hours |= 1u << hour
        return 0

    cdef int go_on(self, int64_t now_ms) except -1:
        self.now_ms = now_ms
        if now_ms > self.next_ms:
            self.next_ms = self.advance(self, now_ms)
        self.expire(now_ms // 1000)
        if now_ms >= self.block_ends_ms:
            self.earlier, self.block = self.block, Block()
            self.block_ends_ms = now_ms + 1000 * self.window_s
        return 0

    cdef void expire(self, int64_t now_s) noexcept:
        """Move the time on. O(seconds), at most the window."""
        cdef uint32_t* gone
        while self.now_s < now_s and self.people:
            self.now_s += 1
            gone = &self.ends[self.now_s % self.window_s]
            self.left_s -= self.people
            self.people -= gone[0]
            gone[0] = 0
        self.now_s = max(self.now_s, now_s)

    cdef int keep(self, uint32_t user, uint32_t url, int64_t second) except -1:
        cdef Block block = self.block
        block.at = <Seen*>with_room(block.at, &block.room, block.n + 1, sizeof(Seen))
        block.at[block.n].user, block.at[block.n].url, block.at[block.n].second = user, url, second
        block.n += 1
        return 0

    cdef void extend(self, int64_t before_s, int64_t end_s) noexcept:
        """Let a user be online until `end_s`, who was so until `before_s`."""
        if end_s <= before_s:
            return
        self.begun_ms += 1000 * end_s - max(1000 * before_s, self.now_ms)
        if before_s > self.now_s:
            self.ends[before_s % self.window_s] -= 1
            self.left_s -= before_s - self.now_s
            self.people -= 1
        self.ends[end_s % self.window_s] += 1
        self.left_s += end_s - self.now_s
        self.people += 1

    cdef int stay(self, Visitor* visitor, int64_t second) except -1:
        if visitor.n_hits and second - visitor.newest_ms // 1000 >= self.window_s:
            self.end_stay(visitor)
        if visitor.n_hits == 0:
            visitor.began_s = second
        visitor.n_hits += 1
        return 0

    cdef int end_stay(self, Visitor* visitor) except -1:
        self.n_stays += 1
        self.stayed_hits += visitor.n_hits
        if visitor.n_hits == 1:
            self.n_single += 1
        else:
            length_s = visitor.newest_ms // 1000 - visitor.began_s
            self.lengths_s[length_s] = self.lengths_s.get(length_s, 0) + 1
        visitor.n_hits = 0
        return 0

    cdef void look(self) noexcept:
        if self.people > self.peak:
            self.peak = self.people
        if self.people > self.most:
            self.most, self.most_at_ms = self.people, self.now_ms
            if self.most_block is not self.block:
                self.most_earlier, self.most_block = self.earlier, self.block
            self.most_n = self.block.n

    # Answers

    def people_at(self, int64_t at_ms):
        self.expire(at_ms // 1000)
        return self.people

    def online_ms(self, int64_t at_ms):
        self.expire(at_ms // 1000)
        return self.begun_ms - (1000 * self.left_s - self.people * (at_ms - 1000 * self.now_s))

    @property
    def n_users(self):
        return self.users.n

    def pages(self):
        return [(self.url(i), self.url_hits[i]) for i in range(self.urls.n)]

    def pages_at_most(self):
        cdef uint32_t* people = <uint32_t*>calloc(self.urls.n + 1, sizeof(uint32_t))
        cdef uint8_t* is_counted = <uint8_t*>calloc(self.users.n + 1, 1)
        cdef int64_t first_s = self.most_at_ms // 1000 - self.window_s + 1
        cdef Block block
        cdef Seen* seen
        cdef size_t n
        try:
            if people == NULL or is_counted == NULL:
                raise MemoryError("no memory for the figures of a log")
            for block, n in ((self.most_block, self.most_n), (self.most_earlier, self.most_earlier.n)):
                while n:
                    n -= 1
                    seen = &block.at[n]
                    people[seen.url] += seen.second >= first_s and not is_counted[seen.user]
                    is_counted[seen.user] = 1
            return [(self.url(i), people[i]) for i in range(self.urls.n) if people[i]]
        finally:
            free(people)
            free(is_counted)

    cdef bytes url(self, uint32_t number):
        cdef Name name = name_at(&self.urls, number)
        return name.at[:name.n_bytes]

    def days(self):
        return self.by_day.all()

    def months(self):
        return {month: users for month, (_, users) in self.by_month.all().items()}

    def years(self):
        return {year: users for year, (_, users) in self.by_year.all().items()}

    def hours(self):
        cdef int64_t users[24]
        cdef size_t i
        cdef int hour
        memset(users, 0, sizeof(users))
        for i in range(self.users.n):
            for hour in range(24):
                users[hour] += self.visitors[i].hours >> hour & 1
        return [(self.by_hour[hour], users[hour]) for hour in range(24)]

    def stays(self):
        cdef size_t i
        for i in range(self.users.n):
            if self.visitors[i].n_hits:
                self.end_stay(&self.visitors[i])
        return self.n_stays, self.stayed_hits, self.n_single, self.lengths_s
