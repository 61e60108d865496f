"""Who is online, in C: hits and listings on plain structs. See ext/core.pyx for the rules and invariants."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from online.core.arena cimport Purse, ref_t
from online.core.skiplist cimport Name, Order, Skiplist
from online.core.table cimport HashKey, Table

cdef enum:
    HITS_AT_ONCE = 32
    SEARCHES_A_HIT = 4
    CURSOR_TAG_BYTES = 17                                # a dot and 16 hexadecimal digits
    CURSOR_PLACE_BYTES = 24                              # longest place in time

cdef enum Outcome:
    ACCEPTED
    LATE
    STALE
    BAD_USER                                             # from here on: refused
    BAD_URL
    BAD_SEEN
    BAD_KIND
    FULL_USERS
    FULL_PAGES
    FULL_MEMORY

cdef enum Scope:                                         # what a cursor is good for
    OF_PAGE
    OF_RECENT
    OF_USERS

cdef struct Hit:
    Name user
    Name url                                             # not looked at for DEPARTED
    int64_t seen_ms
    int kind                                             # MEMBER to DEPARTED; anything else is BAD_KIND

cdef struct Tally:
    int64_t accepted
    int64_t late
    int64_t stale
    int64_t skewed
    int64_t refused
    int64_t full[3]                                      # of these, by limit: FULL_USERS, FULL_PAGES, FULL_MEMORY

cdef struct Core:
    Skiplist skiplist
    Table users
    Table pages
    ref_t named                                          # head of members and guests: by time, by name
    ref_t unnamed                                        # head of hidden, bots and departed: by time
    ref_t urls                                           # head of pages: by name, by page
    int64_t now_ms
    int64_t window_s
    int64_t expiry_due_ms                                # nothing leaves the window before this
    int64_t people
    int64_t peak
    int64_t peak_at_ms
    int64_t kinds[5]                                     # sessions by kind, DEPARTED too
    uint32_t* seconds                                    # people by second of their hit, modulo the window
    int64_t max_users
    int64_t max_pages
    int64_t max_scan
    uint32_t max_user
    uint32_t max_url
    uint32_t max_limit
    # Of hits about to be applied: a record by name that is not greater than a new user (2 i) or url (2 i + 1).
    ref_t fingers[2 * HITS_AT_ONCE]
    int n_fingers                                        # 0 unless a batch is being applied
    HashKey hash_key
    HashKey cursor_key
    Tally tally
    Purse own_purse

cdef struct Listing:
    Order order
    ref_t at                                             # the next to list, or `end`
    ref_t end
    Name prefix

cdef struct Ranked:
    int64_t people
    ref_t page

cdef bint core_open(Core* core, Purse* purse, const uint64_t* secrets) noexcept nogil
cdef void core_close(Core* core) noexcept nogil
cdef int64_t core_memory_bytes(const Core* core) noexcept nogil
cdef int64_t core_expire(Core* core, int64_t now_ms) noexcept nogil
cdef Outcome core_check_hit(const Core* core, const Hit* hit) noexcept nogil
cdef Outcome core_weigh_hit(Core* core, const Hit* hit) noexcept nogil
cdef Outcome core_hit(Core* core, const Hit* hit) noexcept nogil
cdef void core_hits(Core* core, const Hit* hits, int n_hits, Outcome* outcomes) noexcept nogil
cdef int64_t core_people_within(const Core* core, int64_t within_s) noexcept nogil
cdef ref_t core_find_user(const Core* core, Name user) noexcept nogil
cdef ref_t core_find_page(const Core* core, Name url) noexcept nogil
cdef int64_t core_page_people(const Core* core, ref_t page) noexcept nogil
cdef int64_t core_seen_ms(const Core* core, ref_t session) noexcept nogil
cdef bint core_is_named(const Core* core, ref_t session) noexcept nogil
cdef bint core_section(Core* core, Name prefix, int64_t* people, int64_t* n_pages) noexcept nogil
cdef Listing core_list_page(Core* core, ref_t page) noexcept nogil
cdef Listing core_list_recent(Core* core) noexcept nogil
cdef Listing core_list_users(Core* core, Name prefix) noexcept nogil
cdef bint core_continue(Core* core, Listing* listing, Scope scope, Name of, Name cursor) noexcept nogil
cdef int64_t core_list(Core* core, Listing* listing, ref_t* sessions, int64_t limit) noexcept nogil
cdef size_t core_cursor(Core* core, Scope scope, Name of, ref_t last, char* out) noexcept nogil
cdef size_t core_cursor_bytes(const Core* core) noexcept nogil
cdef ref_t core_oldest(const Core* core, bint named) noexcept nogil
cdef ref_t core_later(const Core* core, ref_t session, bint named) noexcept nogil
cdef int64_t core_top(Core* core, Name prefix, Ranked* heap, int64_t limit) noexcept nogil
cdef uint32_t core_hash(const Core* core, Name name) noexcept nogil
cdef bint core_is_online(const Core* core, int64_t seen_ms) noexcept nogil
cdef bint core_has_more(Core* core, const Listing* listing) noexcept nogil
