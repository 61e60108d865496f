"""States: what an index answers about a channel, as JSON, for whoever is told when it changes.

Its job: the answers of COUNT, PAGE, SECTION, TOP and SEEN as the HTTP API writes them, in C, because each channel that
somebody watches is asked at each interval, changed or not: 1 us for a count, 4 us for a page of 30 users. The hottest
requests of that API are answered with them, too (gets). Not its job: which channels there are, and who is told
(serve/push).

Invariants:
1. A state is of one moment, and exact.
2. A method that would have to drop or look at too many gives up its turn: it returns None, and is to be called again.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

import json
from base64 import b64encode

from online import errors

from online.core.arena cimport NO_REF, ref_t
from online.core.arguments cimport kind_name
from online.core.core cimport (
    Core, core_advance, core_find_user, core_is_named, core_page_people, core_seen_ms, core_settle_page,
)
from online.core.index cimport Index, bytes_from, name_from
from online.core.lists cimport (
    CURSOR_TAG_BYTES, OF_PAGE, Listing, core_cursor, core_has_more, core_list, core_list_page,
)
from online.core.resp_values cimport MOST_LINE_BYTES, resp_line
from online.core.sections cimport ANSWERED, NO_MEMORY, TOO_LONG, Asked, Ranked, core_section, core_top
from online.core.skiplist cimport MAX_NAME_BYTES, MEMBER, Name, kind_at, name_of, record_at

cdef enum:
    MOST_LOOKED_AT = 500                                 # users of a page, to find its newest members
    MOST_PAGES = 10                                      # in TOP
    LONGEST_CURSOR = CURSOR_TAG_BYTES + 2 * MAX_NAME_BYTES
    EXPIRED_A_TURN = 256                                 # sessions that a state drops in a turn
    PAGES_A_TURN = 4_096                                 # pages that SECTION and TOP look at in a turn


def quoted(bytes name not None):
    """Return text as JSON; bytes that are not UTF-8 as an object with `base64`."""
    try:
        value = name.decode()
    except UnicodeDecodeError:
        value = {"base64": b64encode(name).decode()}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


cdef bint is_plain(Name name) noexcept nogil:
    """Whether text stands for itself in JSON."""
    cdef uint32_t i
    for i in range(name.n_bytes):
        if not c' ' <= name.at[i] <= c'~' or name.at[i] == c'"' or name.at[i] == c'\\':
            return False
    return True


cdef class States:
    def __dealloc__(self):
        free(self.at)

    def count(self, Index index not None, bytes of, *, int64_t now_ms, int64_t step_ms):
        core_advance(&index.core, now_ms)
        self.write_count(index.core.people)
        return self.done(now_ms + step_ms)

    def page(self, Index index not None, bytes url not None, *, int64_t now_ms, int64_t step_ms):
        return self.ask_page(index, url, MOST_USERS, False, now_ms, step_ms)

    def members(self, Index index not None, bytes url not None, *, int64_t now_ms, int64_t step_ms):
        return self.ask_page(index, url, MOST_LOOKED_AT, True, now_ms, step_ms)

    def here(self, Index index not None, bytes url not None, *, int64_t now_ms, int64_t step_ms):
        return self.ask_page(index, url, 0, True, now_ms, step_ms)

    cdef ask_page(self, Index index, bytes url, int64_t most, bint only_members, int64_t now_ms, int64_t step_ms):
        core_advance(&index.core, now_ms)
        if not self.write_page(&index.core, name_from(url), most, only_members, step_ms):
            return None
        return self.done(now_ms + step_ms)

    cdef int write_count(self, int64_t people) except -1:
        """Write an answer of COUNT."""
        self.n_bytes = 0
        self.put(b'{"people":')
        return self.put_int(people)

    cdef bint write_page(self, Core* core, Name name, int64_t most, bint only_members, int64_t step_ms) except -1:
        """Write a page and up to MOST_USERS of its `most` newest users; or return False to give up the turn."""
        cdef ref_t[MOST_LOOKED_AT] listed
        cdef Name cursor
        cdef char[LONGEST_CURSOR] room
        cdef int64_t left = EXPIRED_A_TURN, n, i
        cdef int n_written = 0
        cdef Listing listing
        cdef ref_t page
        if not core_settle_page(core, name, False, &left, &page):
            return False
        listing = core_list_page(core, page)
        n = core_list(core, &listing, &listed[0], most, &left)
        if n < 0:
            return False
        self.n_bytes = 0
        self.put(b'{"online":')
        self.put_int(core.people)
        self.put(b',"here":')
        self.put_int(core_page_people(core, page))
        self.put(b',"users":[')
        for i in range(n):
            if n_written == MOST_USERS or only_members and kind_at(&core.skiplist, listed[i]) != <int>MEMBER:
                continue
            self.put(b',{"user":' if n_written else b'{"user":')
            self.put_name(name_of(&core.skiplist, listed[i]))
            self.put(b',"url":')
            self.put_name(name)
            self.put(b',"seen_ms":')
            self.put_int(core_seen_ms(core, listed[i]) + step_ms)
            self.put(b',"kind":"')
            self.put(kind_name(kind_at(&core.skiplist, listed[i])))
            self.put(b'"}')
            n_written += 1
        self.put(b'],"cursor":')
        if n and not only_members and core_has_more(core, &listing):
            cursor.at = room
            cursor.n_bytes = <uint32_t>core_cursor(core, OF_PAGE, name, listed[n - 1], room)
            self.put_name(cursor)
        else:
            self.put(b"null")
        return True

    def user(self, Index index not None, bytes user not None, *, int64_t now_ms, int64_t step_ms):
        core_advance(&index.core, now_ms)
        self.write_user(&index.core, name_from(user), step_ms)
        return self.done(now_ms + step_ms)

    cdef int write_user(self, Core* core, Name user, int64_t step_ms) except -1:
        """Write an answer of SEEN about one user."""
        cdef ref_t session = core_find_user(core, user)
        self.n_bytes = 0
        self.put(b'{"users":[{"user":')
        self.put_name(user)
        if session == NO_REF or not core_is_named(core, session):
            self.put(b',"url":null,"seen_ms":null}]')
        else:
            self.put(b',"url":')
            self.put_name(name_of(&core.skiplist, record_at(&core.skiplist, session).page))
            self.put(b',"seen_ms":')
            self.put_int(core_seen_ms(core, session) + step_ms)
            self.put(b"}]")
        return 0

    def section(self, Index index not None, bytes prefix not None, *, int64_t now_ms, int64_t step_ms):
        cdef int64_t people, n_pages, left = PAGES_A_TURN
        cdef Asked asked
        core_advance(&index.core, now_ms)
        asked = core_section(&index.core, name_from(prefix), &left, &people, &n_pages)
        if asked != ANSWERED:
            return self.put_off(&index.core, asked, prefix, now_ms + step_ms)
        self.n_bytes = 0
        self.put(b'{"people":')
        self.put_int(people)
        self.put(b',"pages":')
        self.put_int(n_pages)
        return self.done(now_ms + step_ms)

    def top(self, Index index not None, bytes of, *, int64_t now_ms, int64_t step_ms):
        cdef Core* core = &index.core
        cdef int64_t n, i, left = PAGES_A_TURN
        cdef Ranked* ranked
        cdef Asked asked
        core_advance(core, now_ms)
        asked = core_top(core, name_from(b""), MOST_PAGES, &left, &ranked, &n)
        if asked != ANSWERED:
            return self.put_off(core, asked, b"", now_ms + step_ms)
        self.n_bytes = 0
        self.put(b'{"pages":[')
        for i in range(n):
            self.put(b',{"url":' if i else b'{"url":')
            self.put_name(name_of(&core.skiplist, ranked[i].page))
            self.put(b',"people":')
            self.put_int(ranked[i].people)
            self.put(b"}")
        self.put(b"]")
        return self.done(now_ms + step_ms)

    cdef put_off(self, Core* core, int asked, bytes prefix, int64_t at_ms):
        """Say why there is no answer, unless it is to be asked again."""
        if asked == TOO_LONG:
            error = errors.scan_too_long(prefix, core.max_scan)
        elif asked == NO_MEMORY:
            error = errors.full("max_memory", core.skiplist.arena.purse.limit_bytes)
        else:
            return None
        self.n_bytes = 0
        self.put(json.dumps({"code": error.code, "detail": str(error)})[:-1].encode())
        return self.done(at_ms)

    cdef done(self, int64_t at_ms):
        return self.at[:self.n_bytes], at_ms

    cdef int put(self, bytes text) except -1:
        return self.put_text(text, len(text))

    cdef int put_text(self, const char* text, size_t n_bytes) except -1:
        cdef size_t size = max(self.size, <size_t>4096)
        cdef void* at
        if self.n_bytes + n_bytes > self.size:
            while size < self.n_bytes + n_bytes:
                size *= 2
            at = realloc(self.at, size)
            if at == NULL:
                raise MemoryError("no memory for a state")
            self.at, self.size = <char*>at, size
        memcpy(self.at + self.n_bytes, text, n_bytes)
        self.n_bytes += n_bytes
        return 0

    cdef int put_int(self, int64_t number) except -1:
        cdef char[MOST_LINE_BYTES] line
        cdef size_t n = resp_line(line, c':', number)    # with one byte before the number, and CR LF behind it
        return self.put_text(&line[1], n - 3)

    cdef int put_name(self, Name name) except -1:
        if not is_plain(name):
            return self.put(quoted(bytes_from(name)))
        self.put_text(b'"', 1)
        self.put_text(name.at, name.n_bytes)
        return self.put_text(b'"', 1)
