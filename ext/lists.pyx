"""Lists of sessions, and the cursors that continue them.

Its job: who is on a page, on the site, or begins with a prefix, in order, from any place on. Not its job: how a list is
written (questions, index). No list steps over a session that it may not name: those stand in runs of their own.

A listing stands before the next session to list; it is valid until the index changes. Of a page that is listed,
nothing is overdue (`core_settle_page`); what is overdue in the other orders is not listed. A cursor is a place and a
tag that only this index can make for this question: forged ones, and those of other questions, are refused.
"""

from libc.stdint cimport int64_t, uint32_t, uint8_t, uint64_t

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport TIE_MASK, Core, core_is_online, core_is_overdue, core_seen_ms, expire_session, key_of
from online.core.skiplist cimport (
    BY_NAME, BY_PAGE, BY_TIME, MAX_NAME_BYTES, Name, begins_with, name_of, newest_of, next_of, prev_of, record_at,
    same_name, skiplist_seek_name, skiplist_seek_page, skiplist_seek_time,
)
from online.core.table cimport HashKey, siphash

cdef Name NO_NAME
NO_NAME.at = ""
NO_NAME.n_bytes = 0


cdef Listing core_list_page(Core* core, ref_t page) noexcept nogil:
    """List a page's sessions, newest first; NO_REF has none. O(1)."""
    cdef Listing listing
    listing.order = BY_PAGE
    listing.prefix = NO_NAME
    listing.end = page
    listing.at = NO_REF if page == NO_REF else newest_of(&core.skiplist, page)
    return listing


cdef Listing core_list_recent(Core* core) noexcept nogil:
    """List all sessions, newest first. O(1)."""
    cdef Listing listing
    listing.order = BY_TIME
    listing.prefix = NO_NAME
    listing.end = core.named
    listing.at = prev_of(&core.skiplist, BY_TIME, core.named)
    return listing


cdef ref_t first_from(Core* core, ref_t head, Name name) noexcept nogil:
    """Return the first record whose name is not less than `name`, or the head. O(log n) expected."""
    cdef ref_t at = skiplist_seek_name(&core.skiplist, head, name)
    if at != head and same_name(name_of(&core.skiplist, at), name):
        return at
    return next_of(&core.skiplist, BY_NAME, at)


cdef Listing core_list_users(Core* core, Name prefix) noexcept nogil:
    """List the sessions whose user begins with `prefix`, by name. `prefix` must outlive the listing. O(log n)."""
    cdef Listing listing
    listing.order = BY_NAME
    listing.prefix = prefix
    listing.end = core.named
    listing.at = first_from(core, core.named, prefix)
    return listing


cdef bint core_has_more(Core* core, const Listing* listing) noexcept nogil:
    """Whether a listing has another session. O(1)."""
    if listing.at == listing.end:
        return False
    return listing.order != BY_NAME or begins_with(name_of(&core.skiplist, listing.at), listing.prefix)


cdef bint settle(Core* core, Listing* listing, int64_t* left) noexcept nogil:
    """Let a listing stand before a session of the window, or at its end. By name, drop what is overdue before it.

    Returns False when `left` sessions were dropped, and another is overdue.
    """
    cdef ref_t overdue
    while listing.at != listing.end and core_is_overdue(core, listing.at):
        if listing.order == BY_TIME:  # all older ones are overdue, too
            listing.at = listing.end
            break
        if left[0] == 0:
            return False
        left[0] -= 1
        overdue = listing.at
        listing.at = next_of(&core.skiplist, BY_NAME, overdue)
        expire_session(core, overdue)
    return True


cdef int64_t core_list(Core* core, Listing* listing, ref_t* sessions, int64_t limit, int64_t* left) noexcept nogil:
    """Write the next sessions, at most `limit`, and step over them; returns how many. O(sessions).

    Returns -1 if more than `left` sessions would have to be dropped first; `left` falls by those that were.
    """
    cdef int64_t n = 0
    if core.overdue and not settle(core, listing, left):
        return -1
    while n < limit and core_has_more(core, listing):
        sessions[n] = listing.at
        n += 1
        if listing.order == BY_NAME:
            listing.at = next_of(&core.skiplist, BY_NAME, listing.at)
        else:
            listing.at = prev_of(&core.skiplist, listing.order, listing.at)
        if core.overdue and not settle(core, listing, left):
            return -1
    return n


# Cursors: the place of the last session listed, and a tag that only this index can make for this question.

cdef uint64_t cursor_tag(const Core* core, Scope scope, Name of, const char* place, size_t n_bytes) noexcept nogil:
    cdef HashKey key = core.cursor_key
    key.k0 = siphash(core.cursor_key, of.at, of.n_bytes)
    key.k1 ^= <uint64_t>scope + 1
    return siphash(key, place, n_bytes)


cdef size_t write_hex(char* out, uint64_t value, int n_digits) noexcept nogil:
    """Write at least `n_digits` hexadecimal digits and return how many."""
    cdef int shift, n = n_digits
    while n < 16 and value >> (4 * n):
        n += 1
    for shift in range(n):
        out[shift] = b"0123456789abcdef"[(value >> (4 * (n - 1 - shift))) & 15]
    return n


cdef bint read_hex(const char* at, size_t n_digits, uint64_t* value) noexcept nogil:
    """Read 1 to 16 lower-case hexadecimal digits."""
    cdef size_t i
    cdef char c
    if not 0 < n_digits <= 16:
        return False
    value[0] = 0
    for i in range(n_digits):
        c = at[i]
        if c'0' <= c <= c'9':
            value[0] = value[0] << 4 | <uint64_t>(c - c'0')
        elif c'a' <= c <= c'f':
            value[0] = value[0] << 4 | <uint64_t>(c - c'a' + 10)
        else:
            return False
    return True


cdef size_t core_cursor_bytes(const Core* core) noexcept nogil:
    """Return the length that no cursor exceeds."""
    return CURSOR_TAG_BYTES + max(<size_t>CURSOR_PLACE_BYTES, <size_t>2 * core.max_user)


cdef size_t core_cursor(Core* core, Scope scope, Name of, ref_t last, char* out) noexcept nogil:
    """Write the cursor that continues behind the session `last`; returns its length. O(1).

    `of` is the url or prefix that the list is of; `out` has room for `core_cursor_bytes`.
    """
    cdef Name user = name_of(&core.skiplist, last)
    cdef size_t n = 0, i
    if scope == OF_USERS:
        for i in range(user.n_bytes):
            n += write_hex(out + n, <uint8_t>user.at[i], 2)
    else:
        n += write_hex(out, <uint64_t>core_seen_ms(core, last), 1)
        out[n] = c'-'
        n += 1
        n += write_hex(out + n, record_at(&core.skiplist, last).key & TIE_MASK, 1)
    i = n
    out[n] = c'.'
    n += 1
    return n + write_hex(out + n, cursor_tag(core, scope, of, out, i), 16)


cdef ref_t after_time(Core* core, const Listing* listing, Name place) noexcept nogil:
    """Return the newest session listed behind a place in time, the listing's end, or NO_REF for a malformed place."""
    cdef uint64_t ms, tie, key
    cdef size_t dash = 0
    while dash < place.n_bytes and place.at[dash] != c'-':
        dash += 1
    if dash == place.n_bytes or not (
            read_hex(place.at, dash, &ms) and read_hex(place.at + dash + 1, place.n_bytes - dash - 1, &tie)):
        return NO_REF
    key = key_of(<int64_t>ms, tie) - 1
    if not core_is_online(core, <int64_t>ms):
        return listing.end
    if listing.order == BY_PAGE:
        return skiplist_seek_page(&core.skiplist, listing.end, key)
    return skiplist_seek_time(&core.skiplist, listing.end, key)


cdef ref_t after_name(Core* core, const Listing* listing, Name place) noexcept nogil:
    """As `after_time`, for a place by name."""
    cdef char name[MAX_NAME_BYTES]
    cdef Name user
    cdef uint64_t byte
    cdef uint32_t i
    user.at = name
    user.n_bytes = place.n_bytes // 2
    for i in range(user.n_bytes):
        if not read_hex(place.at + 2 * i, 2, &byte):
            return NO_REF
        name[i] = <char>byte
    return next_of(&core.skiplist, BY_NAME, skiplist_seek_name(&core.skiplist, listing.end, user))


cdef bint core_continue(Core* core, Listing* listing, Scope scope, Name of, Name cursor) noexcept nogil:
    """Let a listing go on behind a cursor; False if this index never gave it for this question. O(log n)."""
    cdef Name place
    cdef uint64_t tag
    cdef ref_t at
    if not CURSOR_TAG_BYTES < cursor.n_bytes <= core_cursor_bytes(core):
        return False
    place.at = cursor.at
    place.n_bytes = cursor.n_bytes - CURSOR_TAG_BYTES
    if place.at[place.n_bytes] != c'.' or not read_hex(place.at + place.n_bytes + 1, 16, &tag):
        return False
    if tag != cursor_tag(core, scope, of, place.at, place.n_bytes):
        return False
    if listing.at == listing.end:
        return True
    at = after_name(core, listing, place) if scope == OF_USERS else after_time(core, listing, place)
    listing.at = at
    return at != NO_REF
