"""Who is online, in C: hits and listings on plain structs. See ext/core.pyx for the rules and invariants."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from online.core.arena cimport NO_REF, Purse, ref_t
from online.core.skiplist cimport (
    BOT, BY_TIME, DEPARTED, GUEST, HIDDEN, MEMBER, Name, Page, Skiplist, compare_names, kind_at, name_of, next_of,
    page_at, record_at, same_name,
)
from online.core.slots cimport Owned
from online.core.table cimport HashKey, Table, siphash

cdef extern from *:
    """
    #define TIE_BITS 36                                      /* of a key of time; the time stands above */
    #define TIE_MASK (((uint64_t)1 << TIE_BITS) - 1)
    #define MS_MASK (((uint64_t)1 << (64 - TIE_BITS)) - 1)
    """
    const int TIE_BITS
    const uint64_t TIE_MASK
    const uint64_t MS_MASK

cdef enum:
    HITS_AT_ONCE = 32

cdef enum Outcome:
    ACCEPTED
    LATE
    STALE
    BAD_USER                                             # from here on: refused
    BAD_URL
    BAD_SEEN
    BAD_KIND
    MOVED                                                # its user is another server's
    FULL_USERS
    FULL_PAGES
    FULL_MEMORY

cdef struct Hit:
    Name user
    Name url                                             # not looked at for DEPARTED
    int64_t seen_ms
    int kind                                             # MEMBER to DEPARTED; anything else is BAD_KIND

cdef struct Tally:
    int64_t accepted
    int64_t left                                         # accepted: LEAVE, which is no page load
    int64_t late
    int64_t stale
    int64_t skewed
    int64_t tied                                         # accepted: took the place of another of the same millisecond
    int64_t refused
    int64_t expired                                      # sessions
    int64_t full[3]                                      # of these, by limit: FULL_USERS, FULL_PAGES, FULL_MEMORY

cdef struct Second:
    uint32_t kinds[5]

# Observers note what they are told and do nothing else to the core. Every way in for hits passes the places that tell
# them: a journal or bus sees what was written, push and sections what changed. The first are told behind the hits that
# were carried out side by side, in order: told of each in between, a journal cost 25 ns a hit more, for the waits for
# memory that one hit no longer overlapped with the next. The second are told in the middle of a change.
ctypedef void (*written_t)(void* to, const Hit* hit, int64_t seen_ms) noexcept nogil
ctypedef void (*visit_t)(void* to, const Hit* hit, int64_t seen_ms, int64_t before_ms) noexcept nogil
ctypedef void (*gone_t)(void* to, int kind, Name user, Name url, int64_t seen_ms) noexcept nogil
ctypedef void (*changed_t)(Watch* watch, ref_t page, int kind, int by) noexcept nogil

cdef struct Watch:
    # Told of each session that comes to a page (`by` is 1) or leaves it (-1), by expiry too. Departed ones: NO_REF.
    changed_t changed
    Watch* next

cdef struct Core:
    Skiplist skiplist
    Table users
    Table pages
    ref_t named                                          # head of members and guests: by time, by name
    ref_t unnamed                                        # head of hidden, bots and departed: by time
    ref_t urls                                           # head of pages: by name, by page
    bint without_names                                   # sessions do not stand by name yet: see Index.relax
    int64_t now_ms
    int64_t window_s
    int64_t first_ms                                     # of the window: sessions seen before it are overdue
    int64_t people
    int64_t peak
    int64_t peak_at_ms
    int64_t kinds[5]                                     # sessions in the window by kind, DEPARTED too
    int64_t most_people                                  # the greatest of `people` since the last `core_begin_minute`
    int64_t most_at_ms                                   # when that was
    int64_t most_kinds[5]                                # the same of each of `kinds`, DEPARTED too
    int64_t visits_from_ms                               # a user's first hit after it is a visit; MIN: nobody counts
    Second* seconds                                      # the same by second of their hit, modulo the window
    int64_t overdue                                      # sessions that have left the window and are still here
    int64_t overdue_unnamed                              # of these, under `unnamed`
    int64_t max_users
    int64_t max_strangers                                # departed sessions beyond which no unknown user may leave
    int64_t max_pages
    int64_t max_scan
    uint32_t max_user
    uint32_t max_url
    uint32_t max_limit
    Owned* owned                                         # whose users are taken; NULL: all are
    bint keeps_nothing                                   # good hits are told to observers and make no session
    bint ties_by_rank                                    # of one millisecond the highest is kept, not the last
    # Of hits about to be applied: a record by name that is not greater than a new user (2 i) or url (2 i + 1).
    ref_t fingers[2 * HITS_AT_ONCE]
    int n_fingers                                        # 0 unless a batch is being applied
    HashKey hash_key
    HashKey cursor_key
    Tally tally
    written_t journal                                    # told of each hit and leave that made a session; or NULL
    void* journal_to
    written_t written                                    # the same, for others
    void* written_to
    visit_t visit                                        # told of hits of users not seen since `visits_from_ms`
    gone_t gone                                          # told of sessions that end, and of hits that are late; or NULL
    void* past                                           # what both are given
    Watch* watches
    void* sections                                       # that are kept, see ext/sections.pyx
    Purse own_purse

cdef struct Ahead:
    # What is known of a hit before it is carried out.
    uint64_t user_hash                                   # tables take the lower half, heights the upper
    uint64_t url_hash
    ref_t user_finger                                    # see Core.fingers; NO_REF if nobody has looked
    ref_t url_finger
    int64_t written_ms                                   # the time with which it was applied; 0: it was not, or not yet

cdef bint core_open(Core* core, Purse* purse, const uint64_t* secrets) noexcept nogil
cdef bint core_set_window(Core* core, int64_t window_s) noexcept nogil
cdef void core_close(Core* core) noexcept nogil
cdef int64_t core_memory_bytes(const Core* core) noexcept nogil
cdef void core_begin_minute(Core* core) noexcept nogil
cdef void core_forget(Core* core, ref_t session) noexcept nogil
cdef void core_advance(Core* core, int64_t now_ms) noexcept nogil
cdef int64_t core_expire_some(Core* core, int64_t most) noexcept nogil
cdef bint core_settle_page(Core* core, Name url, bint with_bots, int64_t* left, ref_t* page) noexcept nogil
cdef void expire_session(Core* core, ref_t session) noexcept nogil
cdef Outcome core_check_hit(const Core* core, const Hit* hit) noexcept nogil
cdef Outcome core_weigh_hit(Core* core, const Hit* hit) noexcept nogil
cdef Outcome core_settle_hit(Core* core, const Hit* hit, Ahead* ahead) noexcept nogil
cdef Outcome core_hit(Core* core, const Hit* hit) noexcept nogil
cdef ref_t core_find_user(const Core* core, Name user) noexcept nogil
cdef ref_t core_find_page(const Core* core, Name url) noexcept nogil

# What the files of questions share with core

cdef inline uint32_t core_hash(const Core* core, Name name) noexcept nogil:
    """Return the keyed hash of a user or url."""
    return <uint32_t>siphash(core.hash_key, name.at, name.n_bytes)

cdef inline uint64_t key_of(int64_t ms, uint64_t tie) noexcept nogil:
    """The key of a time and a tie; see the head of ext/core.pyx."""
    return (<uint64_t>ms << TIE_BITS) | tie

cdef inline int64_t ms_of(const Core* core, uint64_t key) noexcept nogil:
    """Return the whole time of a session's key: the latest one that is not after now."""
    return core.now_ms - <int64_t>((<uint64_t>core.now_ms - (key >> TIE_BITS)) & MS_MASK)

cdef inline int64_t core_seen_ms(const Core* core, ref_t session) noexcept nogil:
    """Return when the session's hit happened. O(1)."""
    return ms_of(core, record_at(&core.skiplist, session).key)

cdef inline bint are_people(int kind) noexcept nogil:
    return kind <= HIDDEN

cdef inline bint names(int kind) noexcept nogil:
    """Whether lists name sessions of this kind."""
    return kind <= GUEST

cdef inline bint core_is_named(const Core* core, ref_t session) noexcept nogil:
    """Whether lists may name this session. O(1)."""
    return names(kind_at(&core.skiplist, session))

cdef inline bint core_is_online(const Core* core, int64_t seen_ms) noexcept nogil:
    """Whether a hit of this time is inside the window. O(1)."""
    return seen_ms >= core.first_ms

cdef inline bint core_is_overdue(const Core* core, ref_t session) noexcept nogil:
    """Whether a session has left the window, and is only waiting to be dropped. O(1)."""
    return core.overdue != 0 and not core_is_online(core, core_seen_ms(core, session))

cdef inline ref_t head_of(const Core* core, int kind) noexcept nogil:
    """The head of the order by time that sessions of a kind stand in."""
    return core.named if names(kind) else core.unnamed

cdef inline ref_t core_later(const Core* core, ref_t session, bint named) noexcept nogil:
    """Return the next later session of the same sort, or NO_REF. O(1)."""
    cdef ref_t later = next_of(&core.skiplist, BY_TIME, session)
    return NO_REF if later == (core.named if named else core.unnamed) else later

cdef inline ref_t core_oldest(const Core* core, bint named) noexcept nogil:
    """Return the oldest named or unnamed session, or NO_REF. O(1)."""
    return core_later(core, core.named if named else core.unnamed, named)

cdef inline int64_t people_of(const Second* second) noexcept nogil:
    return <int64_t>second.kinds[<int>MEMBER] + second.kinds[<int>GUEST] + second.kinds[<int>HIDDEN]

cdef inline int64_t core_people_within(const Core* core, int64_t within_s) noexcept nogil:
    """Count the people seen within the last `within_s` seconds, 1 to the window. O(within_s)."""
    cdef int64_t end = (core.now_ms // 1000 + 1) % core.window_s
    cdef int64_t people = 0, second
    for second in range(max(end - within_s, <int64_t>0), end):
        people += people_of(&core.seconds[second])
    for second in range(core.window_s + min(end - within_s, <int64_t>0), core.window_s):
        people += people_of(&core.seconds[second])
    return people

cdef inline int64_t people_on(const Page* page) noexcept nogil:
    return <int64_t>page.counts[<int>MEMBER] + page.counts[<int>GUEST] + page.counts[<int>HIDDEN]

cdef inline int64_t core_page_people(const Core* core, ref_t page) noexcept nogil:
    """Count the people on a page; NO_REF has none. O(1)."""
    return 0 if page == NO_REF else people_on(page_at(&core.skiplist, page))

cdef inline int64_t sessions_on(const Core* core, ref_t page) noexcept nogil:
    """How many sessions a page has, of bots too."""
    cdef const Page* at = page_at(&core.skiplist, page)
    return people_on(at) + at.counts[<int>BOT]

cdef inline bint is_repeat(const Core* core, ref_t session, const Hit* hit) noexcept nogil:
    """Whether a hit of the same time as the session is the session's own hit."""
    if kind_at(&core.skiplist, session) != hit.kind:
        return False
    return hit.kind == DEPARTED or same_name(
        name_of(&core.skiplist, record_at(&core.skiplist, session).page), hit.url)

cdef inline bint outranks(const Core* core, const Hit* hit, ref_t session) noexcept nogil:
    """Whether a hit ranks above a session of the same time: by kind, a leave being the highest, then by url."""
    cdef int kind = kind_at(&core.skiplist, session)
    if hit.kind != kind or kind == DEPARTED:
        return hit.kind > kind
    return compare_names(hit.url, name_of(&core.skiplist, record_at(&core.skiplist, session).page)) > 0

cdef inline void core_tell(Core* core, const Hit* hit, const Ahead* ahead) noexcept nogil:
    """Tell who observes what is written, if anybody does and the hit was."""
    if core.journal != NULL and ahead.written_ms:
        core.journal(core.journal_to, hit, ahead.written_ms)
    if core.written != NULL and ahead.written_ms:
        core.written(core.written_to, hit, ahead.written_ms)

cdef inline void core_look(HashKey key, const Hit* hit, Ahead* ahead) noexcept nogil:
    """Begin to look ahead: hash the names of a hit. `key` is the core's `hash_key`."""
    ahead.user_hash = siphash(key, hit.user.at, hit.user.n_bytes)
    ahead.url_hash = 0 if hit.kind == DEPARTED else siphash(key, hit.url.at, hit.url.n_bytes)
    ahead.user_finger = ahead.url_finger = NO_REF
    ahead.written_ms = 0

cdef inline void core_watch(Core* core, Watch* watch) noexcept nogil:
    """Let `watch` be told of changes. O(1)."""
    watch.next = core.watches
    core.watches = watch

cdef inline void core_unwatch(Core* core, Watch* watch) noexcept nogil:
    """Undo `core_watch`, if it was done. O(watches)."""
    cdef Watch** link = &core.watches
    while link[0] != NULL and link[0] != watch:
        link = &link[0].next
    if link[0] != NULL:
        link[0] = watch.next
