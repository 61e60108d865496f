"""Who is online, in C: hits, leaves, expiry and questions, on top of the multi-indexed skiplist.

Its job: the rules of hits, and the answers to all questions about sessions. Not its job: how records are linked
(skiplist.pyx), Python objects (index.pyx), any dialect (wire.pyx), and clocks: `now_ms` is always an argument.
Whoever calls a question first calls `core_expire`: so every answer is exact as of now.

A user has one session, the newest hit. Members and guests stand by time, by name and by page. Sessions that no list
may name (hidden, bots, departed) stand by time alone, under a head of their own: nothing ever asks for them in
another order, and no list has to step over them.

Invariants, beside those of the skiplist and the tables:
1. Every session is in `users`, every page in `pages`; a page has at least one session, a departed session no page.
2. A session stands by time under `named` or `unnamed` as its kind says; under `named` also by name, and by page
   between its page's record and the next page's.
3. `kinds`, `people`, `seconds` and every page's `counts` are sums over the sessions.
4. No session is outside the window of `now_ms`, which never goes back.
5. What can fail (memory, limits) fails before anything is changed.

Places in time. A session's key is its time modulo 2^28 ms (74 hours) and, below it, a tie of 36 bits: one more than
the predecessor's within the same millisecond, so that arrival orders equal times. As all sessions are within one
window of at most 24 hours, keys compare right though they wrap around, and `now_ms` gives back the whole time.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from online.terms import SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS
from online.terms import SKEW_MS as _SKEW_MS

from online.core.arena cimport NO_REF, Purse, purse_give, purse_take, ref_t
from online.core.skiplist cimport (
    BOT, BY_NAME, BY_PAGE, BY_TIME, DEPARTED, GUEST, HEAD, HIDDEN, MAX_HEIGHT, MAX_NAME_BYTES, MEMBER, PAGE,
    Kind, Link, Name, Order, Page, Record, Search, Skiplist,
    begins_with, compare_names, name_of, next_of, page_at, prefetch_record, prev_of, record_at, same_name,
    search_name, search_page, search_time, skiplist_close, skiplist_draw_height, skiplist_free, skiplist_link,
    skiplist_new, skiplist_open, skiplist_search, skiplist_seek_name, skiplist_seek_page, skiplist_seek_time,
    skiplist_unlink, skiplist_walk_name,
)
from online.core.table cimport (
    HashKey, Slots, Table, siphash, table_add, table_bytes, table_close, table_find, table_guess, table_open,
    table_prefetch, table_remove, table_reserve, table_settle, table_used,
)

cdef extern from *:
    """
    #define prefetch(at) __builtin_prefetch((at), 1)
    """
    void prefetch(const void* at) noexcept nogil

cdef enum:
    TIE_BITS = 36
    CLIMB_STEPS = 16                                     # four on average find a record of two levels
    TOP_AHEAD = 8                                        # slots by which TOP fetches pages ahead

cdef struct Ahead:
    # What is known of a hit before it is carried out.
    uint32_t user_hash
    uint32_t url_hash
    ref_t user_finger                                    # see Core.fingers; NO_REF if nobody has looked
    ref_t url_finger
    uint8_t user_height                                  # of a session or page, should the hit make one
    uint8_t url_height

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS
cdef int64_t SKEW_MS = _SKEW_MS
cdef uint64_t MS_MASK = (<uint64_t>1 << (64 - TIE_BITS)) - 1
cdef uint64_t TIE_MASK = (<uint64_t>1 << TIE_BITS) - 1
cdef Name NO_NAME
NO_NAME.at = ""


# Beginning and end

cdef bint core_open(Core* core, Purse* purse, const uint64_t* secrets) noexcept nogil:
    """Make an empty index of a zeroed Core whose `window_s` and limits are set; False if there is no memory.

    `purse` must outlive it. `secrets`: five random words, for hashes, cursors and heights.
    `core_close` is to be called in either case.
    """
    core.users.purse = core.pages.purse = core.skiplist.arena.purse = purse
    core.hash_key.k0, core.hash_key.k1 = secrets[0], secrets[1]
    core.cursor_key.k0, core.cursor_key.k1 = secrets[2], ~secrets[3]  # another key, though a short seed repeats
    core.expiry_due_ms = INT64_MAX
    if not purse_take(purse, core.window_s * sizeof(uint32_t)):
        return False
    core.seconds = <uint32_t*>calloc(core.window_s, sizeof(uint32_t))
    if core.seconds == NULL:
        purse_give(purse, core.window_s * sizeof(uint32_t))
        return False
    if not (skiplist_open(&core.skiplist, purse, secrets[4])
            and table_open(&core.users, purse) and table_open(&core.pages, purse)):
        return False
    core.named = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    core.unnamed = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    core.urls = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    return core.urls != NO_REF


cdef void core_close(Core* core) noexcept nogil:
    """Free all that `core_open` and hits have taken. O(1), but for giving memory back."""
    if core.seconds != NULL:
        purse_give(core.skiplist.arena.purse, core.window_s * sizeof(uint32_t))
    free(core.seconds)
    table_close(&core.users)
    table_close(&core.pages)
    skiplist_close(&core.skiplist)


cdef int64_t core_memory_bytes(const Core* core) noexcept nogil:
    """Return what the index has taken from the system. O(1)."""
    cdef int64_t n_bytes = core.skiplist.arena.used_bytes + core.window_s * <int64_t>sizeof(uint32_t)
    return n_bytes + <int64_t>(table_bytes(&core.users) + table_bytes(&core.pages))


# Times and kinds

cdef inline uint64_t key_of(int64_t ms, uint64_t tie) noexcept nogil:
    return (<uint64_t>ms << TIE_BITS) | tie


cdef inline int64_t ms_of(const Core* core, uint64_t key) noexcept nogil:
    """Return the whole time of a session's key: the latest one that is not after now."""
    return core.now_ms - <int64_t>((<uint64_t>core.now_ms - (key >> TIE_BITS)) & MS_MASK)


cdef int64_t core_seen_ms(const Core* core, ref_t session) noexcept nogil:
    """Return when the session's hit happened. O(1)."""
    return ms_of(core, record_at(&core.skiplist, session).key)


cdef bint core_is_online(const Core* core, int64_t seen_ms) noexcept nogil:
    """Whether a hit of this time is inside the window. O(1)."""
    return seen_ms // 1000 > core.now_ms // 1000 - core.window_s


cdef inline bint names(int kind) noexcept nogil:
    """Whether lists name sessions of this kind."""
    return kind <= GUEST


cdef inline bint are_people(int kind) noexcept nogil:
    return kind <= HIDDEN


cdef bint core_is_named(const Core* core, ref_t session) noexcept nogil:
    """Whether lists may name this session. O(1)."""
    return names(record_at(&core.skiplist, session).kind)


cdef inline ref_t head_of(const Core* core, int kind) noexcept nogil:
    return core.named if names(kind) else core.unnamed


# Finding

cdef uint32_t core_hash(const Core* core, Name name) noexcept nogil:
    """Return the keyed hash of a user or url."""
    return <uint32_t>siphash(core.hash_key, name.at, name.n_bytes)


cdef ref_t core_find_user(const Core* core, Name user) noexcept nogil:
    """Return the user's session, departed or not, or NO_REF. O(1) expected."""
    return table_find(&core.users, &core.skiplist, core_hash(core, user), user)


cdef ref_t core_find_page(const Core* core, Name url) noexcept nogil:
    """Return the page of this url, or NO_REF. O(1) expected."""
    return table_find(&core.pages, &core.skiplist, core_hash(core, url), url)


cdef int64_t core_page_people(const Core* core, ref_t page) noexcept nogil:
    """Count the people on a page; NO_REF has none. O(1)."""
    cdef Page* at = page_at(&core.skiplist, page)
    return 0 if page == NO_REF else <int64_t>at.counts[<int>MEMBER] + at.counts[<int>GUEST] + at.counts[<int>HIDDEN]


cdef inline int64_t sessions_on(const Core* core, ref_t page) noexcept nogil:
    return core_page_people(core, page) + page_at(&core.skiplist, page).counts[<int>BOT]


cdef int64_t core_people_within(const Core* core, int64_t within_s) noexcept nogil:
    """Count the people seen within the last `within_s` seconds, 1 to the window. O(within_s)."""
    cdef int64_t end = (core.now_ms // 1000 + 1) % core.window_s
    cdef int64_t people = 0, second
    for second in range(max(end - within_s, <int64_t>0), end):
        people += core.seconds[second]
    for second in range(core.window_s + min(end - within_s, <int64_t>0), core.window_s):
        people += core.seconds[second]
    return people


cdef ref_t core_oldest(const Core* core, bint named) noexcept nogil:
    """Return the oldest named or unnamed session, or NO_REF. O(1)."""
    return core_later(core, core.named if named else core.unnamed, named)


cdef ref_t core_later(const Core* core, ref_t session, bint named) noexcept nogil:
    """Return the next later session of the same sort, or NO_REF. O(1)."""
    cdef ref_t later = next_of(&core.skiplist, BY_TIME, session)
    return NO_REF if later == (core.named if named else core.unnamed) else later


# Pages come and go

cdef inline ref_t seek_name(const Core* core, ref_t head, ref_t finger, Name name) noexcept nogil:
    """Return the last record by name that is not greater than `name`, or the head; `finger` may be NO_REF."""
    if finger == NO_REF:
        return skiplist_seek_name(&core.skiplist, head, name)
    return skiplist_walk_name(&core.skiplist, head, finger, name)


cdef void unlink_name(Core* core, ref_t ref) noexcept nogil:
    """Take a record out of its order by name; fingers that pointed at it step back. O(1) expected."""
    cdef ref_t before = prev_of(&core.skiplist, BY_NAME, ref)
    cdef int i
    for i in range(core.n_fingers):
        if core.fingers[i] == ref:
            core.fingers[i] = before
    skiplist_unlink(&core.skiplist, BY_NAME, ref)


cdef void link_page(Core* core, ref_t page, ref_t finger) noexcept nogil:
    """Give a new page its place among urls, which is its run's place in the order by page. O(log n)."""
    cdef ref_t before = seek_name(core, core.urls, finger, name_of(&core.skiplist, page))
    skiplist_link(&core.skiplist, BY_NAME, page, before)
    skiplist_link(&core.skiplist, BY_PAGE, page, page_at(&core.skiplist, before).newest)
    table_add(&core.pages, record_at(&core.skiplist, page).hash, page)


cdef void drop_page(Core* core, ref_t page) noexcept nogil:
    skiplist_unlink(&core.skiplist, BY_PAGE, page)
    unlink_name(core, page)
    table_remove(&core.pages, record_at(&core.skiplist, page).hash, page)
    skiplist_free(&core.skiplist, page)


cdef void enter_page(Core* core, ref_t session) noexcept nogil:
    """Count the session on its page and, if lists may name it, put it into the page's run. O(1) in time order."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef Page* page = page_at(&core.skiplist, record.page)
    cdef ref_t before
    page.counts[record.kind] += 1
    if names(record.kind):
        before = skiplist_seek_page(&core.skiplist, record.page, record.key)
        skiplist_link(&core.skiplist, BY_PAGE, session, before)
        if before == page.newest:
            page.newest = session


cdef void leave_page(Core* core, ref_t session) noexcept nogil:
    """Undo `enter_page`; the page may stay behind without sessions. O(1)."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef Page* page = page_at(&core.skiplist, record.page)
    page.counts[record.kind] -= 1
    if names(record.kind):
        if page.newest == session:
            page.newest = prev_of(&core.skiplist, BY_PAGE, session)
        skiplist_unlink(&core.skiplist, BY_PAGE, session)


# Sessions come, move and go

cdef void count_session(Core* core, int kind, int64_t seen_ms, int by) noexcept nogil:
    core.kinds[kind] += by
    if are_people(kind):
        core.people += by
        core.seconds[(seen_ms // 1000) % core.window_s] += <uint32_t>by


cdef void attach(Core* core, ref_t session, int kind, ref_t page, int64_t seen_ms) noexcept nogil:
    """Put a session that stands by name alone, if anywhere, at its place in time and on its page."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef Record* record = record_at(skiplist, session)
    cdef ref_t head = head_of(core, kind)
    cdef ref_t before = skiplist_seek_time(skiplist, head, key_of(seen_ms, TIE_MASK))
    cdef uint64_t key = key_of(seen_ms, 0)
    if before != head and record_at(skiplist, before).key >> TIE_BITS == key >> TIE_BITS:
        # A tie ends at 2^36 - 1: at ten million hits a second, all within one millisecond, after two hours.
        key = record_at(skiplist, before).key + 1
    record.kind = <uint8_t>kind
    record.page = page
    record.key = key
    skiplist_link(skiplist, BY_TIME, session, before)
    if page != NO_REF:
        enter_page(core, session)
    count_session(core, kind, seen_ms, 1)
    core.expiry_due_ms = min(core.expiry_due_ms, (seen_ms // 1000 + core.window_s) * 1000)


cdef void detach(Core* core, ref_t session) noexcept nogil:
    """Undo `attach`; the page may stay behind without sessions."""
    cdef Record* record = record_at(&core.skiplist, session)
    count_session(core, record.kind, ms_of(core, record.key), -1)
    if record.page != NO_REF:
        leave_page(core, session)
    skiplist_unlink(&core.skiplist, BY_TIME, session)


cdef void link_name(Core* core, ref_t session, ref_t finger) noexcept nogil:
    """Put a session into the order by name. O(log n)."""
    cdef ref_t before = seek_name(core, core.named, finger, name_of(&core.skiplist, session))
    skiplist_link(&core.skiplist, BY_NAME, session, before)


cdef void expire_session(Core* core, ref_t session) noexcept nogil:
    cdef Record* record = record_at(&core.skiplist, session)
    cdef ref_t page = record.page
    detach(core, session)
    if names(record.kind):
        unlink_name(core, session)
    if page != NO_REF and sessions_on(core, page) == 0:
        drop_page(core, page)
    table_remove(&core.users, record.hash, session)
    skiplist_free(&core.skiplist, session)


cdef int64_t expire_order(Core* core, ref_t head, int64_t now_ms) noexcept nogil:
    """Drop what has left the window from the sessions under one head, and note when the next one will."""
    cdef int64_t n_expired = 0, due_ms
    cdef ref_t oldest = next_of(&core.skiplist, BY_TIME, head)
    while oldest != head:
        due_ms = (core_seen_ms(core, oldest) // 1000 + core.window_s) * 1000
        if due_ms > now_ms:
            core.expiry_due_ms = min(core.expiry_due_ms, due_ms)
            break
        expire_session(core, oldest)
        n_expired += 1
        oldest = next_of(&core.skiplist, BY_TIME, head)
    return n_expired


cdef int64_t core_expire(Core* core, int64_t now_ms) noexcept nogil:
    """Let the time be `now_ms`, unless it is later already; drop what has left the window and return how many.

    O(1) for each session dropped, and for none: `expiry_due_ms` says when to look. All that has left goes in one
    call: on a machine that slept through the window, that is everybody, at 0.2 to 0.5 us each.
    """
    cdef int64_t n_expired = 0
    if now_ms <= core.now_ms:
        return 0
    if now_ms >= core.expiry_due_ms:
        core.expiry_due_ms = INT64_MAX
        n_expired = expire_order(core, core.named, now_ms) + expire_order(core, core.unnamed, now_ms)
    core.now_ms = now_ms
    return n_expired


# Hits

cdef Outcome core_check_hit(const Core* core, const Hit* hit) noexcept nogil:
    """Return what is wrong with a hit in itself, or ACCEPTED. O(1)."""
    if not 0 < hit.user.n_bytes <= core.max_user:
        return BAD_USER
    if hit.kind != DEPARTED and not 0 < hit.url.n_bytes <= core.max_url:
        return BAD_URL
    if not SEEN_MIN_MS <= hit.seen_ms <= SEEN_MAX_MS:
        return BAD_SEEN
    if not 0 <= hit.kind <= <int>DEPARTED:
        return BAD_KIND
    return ACCEPTED


cdef inline void count_outcome(Core* core, const Hit* hit, Outcome outcome) noexcept nogil:
    if outcome == ACCEPTED:
        core.tally.accepted += 1
        core.tally.skewed += hit.seen_ms > core.now_ms + SKEW_MS
    elif outcome == LATE:
        core.tally.late += 1
    elif outcome == STALE:
        core.tally.stale += 1
    else:
        core.tally.refused += 1
        if outcome >= FULL_USERS:
            core.tally.full[<int>outcome - <int>FULL_USERS] += 1


cdef inline bint is_repeat(const Core* core, ref_t session, const Hit* hit) noexcept nogil:
    """Whether a hit of the same time as the session is the session's own hit."""
    cdef Record* record = record_at(&core.skiplist, session)
    if record.kind != hit.kind:
        return False
    return hit.kind == DEPARTED or same_name(name_of(&core.skiplist, record.page), hit.url)


cdef inline ref_t new_record(
        Core* core, Table* table, Kind kind, Name name, uint32_t hash, int height) noexcept nogil:
    """Make a record that its table has room for, or return NO_REF."""
    return skiplist_new(&core.skiplist, kind, name, hash, height) if table_reserve(table) else NO_REF


cdef Outcome apply_hit(Core* core, const Hit* hit, const Ahead* ahead, ref_t session, int64_t seen_ms) noexcept nogil:
    """Make a hit its user's session (NO_REF: a new one), or change nothing if a limit does not let it."""
    cdef bint is_new = session == NO_REF
    cdef bint was_named = not is_new and core_is_named(core, session)
    cdef ref_t left = NO_REF if is_new else record_at(&core.skiplist, session).page
    cdef ref_t page = NO_REF
    cdef bint is_new_page = False
    cdef int64_t freed = 0
    if hit.kind != DEPARTED:
        page = table_find(&core.pages, &core.skiplist, ahead.url_hash, hit.url)
        is_new_page = page == NO_REF
    if is_new and table_used(&core.users) >= core.max_users:
        return FULL_USERS
    if is_new_page:
        freed = left != NO_REF and sessions_on(core, left) == 1
        if table_used(&core.pages) - freed >= core.max_pages:
            return FULL_PAGES
    if is_new:
        session = new_record(core, &core.users, <Kind>hit.kind, hit.user, ahead.user_hash, ahead.user_height)
        if session == NO_REF:
            return FULL_MEMORY
    if is_new_page:
        page = new_record(core, &core.pages, PAGE, hit.url, ahead.url_hash, ahead.url_height)
        if page == NO_REF:
            if is_new:
                skiplist_free(&core.skiplist, session)
            return FULL_MEMORY
        link_page(core, page, ahead.url_finger)
    if is_new:
        table_add(&core.users, ahead.user_hash, session)
    else:
        detach(core, session)
    attach(core, session, hit.kind, page, seen_ms)
    if left != NO_REF and sessions_on(core, left) == 0:
        drop_page(core, left)
    if names(hit.kind) and not was_named:
        link_name(core, session, ahead.user_finger)
    elif was_named and not names(hit.kind):
        unlink_name(core, session)
    if core.people > core.peak:
        core.peak = core.people
        core.peak_at_ms = core.now_ms
    return ACCEPTED


cdef Outcome core_weigh_hit(Core* core, const Hit* hit) noexcept nogil:
    """Return what `core_hit` would, as far as that can be known of a user never seen; count what it would not take.

    O(1). Requires: as `core_hit`.
    """
    cdef Outcome outcome = core_check_hit(core, hit)
    if outcome == ACCEPTED and not core_is_online(core, min(hit.seen_ms, core.now_ms)):
        outcome = LATE
    if outcome != ACCEPTED:
        count_outcome(core, hit, outcome)
    return outcome


cdef Outcome judge_hit(Core* core, const Hit* hit, const Ahead* ahead) noexcept nogil:
    """Carry out a hit that is good in itself, without counting what became of it."""
    cdef int64_t seen_ms = min(hit.seen_ms, core.now_ms)
    cdef ref_t session
    cdef int64_t newest_ms
    if not core_is_online(core, seen_ms):
        return LATE
    session = table_find(&core.users, &core.skiplist, ahead.user_hash, hit.user)
    if session != NO_REF:
        newest_ms = core_seen_ms(core, session)
        if seen_ms < newest_ms:
            return STALE
        if seen_ms == newest_ms and is_repeat(core, session, hit):
            return ACCEPTED
    return apply_hit(core, hit, ahead, session, seen_ms)


cdef Outcome settle_hit(Core* core, const Hit* hit, const Ahead* ahead, Outcome outcome) noexcept nogil:
    """Carry out a hit unless something is wrong with it in itself, and count what became of it."""
    if outcome == ACCEPTED:
        outcome = judge_hit(core, hit, ahead)
    count_outcome(core, hit, outcome)
    return outcome


cdef inline Ahead look(Core* core, const Hit* hit) noexcept nogil:
    cdef Ahead ahead
    ahead.user_hash = core_hash(core, hit.user)
    ahead.url_hash = 0 if hit.kind == DEPARTED else core_hash(core, hit.url)
    ahead.user_finger = ahead.url_finger = NO_REF
    ahead.user_height = <uint8_t>skiplist_draw_height(&core.skiplist)
    ahead.url_height = <uint8_t>skiplist_draw_height(&core.skiplist)
    return ahead


cdef Outcome core_hit(Core* core, const Hit* hit) noexcept nogil:
    """Make `hit` its user's session if it is the newest; kind DEPARTED takes the user offline.

    O(1) expected in time order; O(log d) for a hit d places out of order; O(log n) for a new user or url.
    Requires: core_expire(core, now_ms) was called, and hit.seen_ms is given.
    Returns: ACCEPTED (also for an exact repeat); LATE or STALE, ignored; or why it was refused. All are counted;
    all but ACCEPTED change nothing else.
    """
    cdef Ahead ahead = look(core, hit)
    return settle_hit(core, hit, &ahead, core_check_hit(core, hit))


# Hits side by side: what they will touch is fetched first, a step of every hit at a time. While they are applied, a
# finger is not greater than its name: records that come between are walked over, and one that goes hands it back.

cdef struct Found:
    # What a hit will probably touch; NO_REF where there is nothing.
    ref_t session
    ref_t page


cdef inline void prefetch_neighbours(const Core* core, ref_t ref, Order order) noexcept nogil:
    """Fetch what unlinking a record will touch."""
    cdef Link link = record_at(&core.skiplist, ref).levels[0].by[<int>order]
    prefetch_record(&core.skiplist, link.prev, 1)
    prefetch_record(&core.skiplist, link.next, 1)


cdef inline void prefetch_links(const Core* core, Found found) noexcept nogil:
    """Fetch what stands beside a hit's session and beside its new place."""
    if found.session != NO_REF:
        prefetch_neighbours(core, found.session, BY_TIME)
        prefetch_neighbours(core, found.session, BY_PAGE)
        prefetch_record(&core.skiplist, record_at(&core.skiplist, found.session).page, 1)
    if found.page != NO_REF:
        prefetch_record(&core.skiplist, page_at(&core.skiplist, found.page).newest, 1)


cdef inline void prefetch_left(const Core* core, Found found) noexcept nogil:
    """Fetch what dropping the page that a hit's user leaves will touch, if nobody else is there."""
    cdef ref_t left = NO_REF
    if found.session != NO_REF:
        left = record_at(&core.skiplist, found.session).page
    if left != NO_REF and left != found.page and sessions_on(core, left) == 1:
        prefetch_neighbours(core, left, BY_NAME)
        prefetch_neighbours(core, left, BY_PAGE)
        table_prefetch(&core.pages, record_at(&core.skiplist, left).hash)


cdef void begin_searches(const Core* core, const Hit* hit, Found found, Search* searches) noexcept nogil:
    """Begin the searches that a hit will need: by name for its user and url, by time, in its page's run."""
    cdef uint64_t key = key_of(min(hit.seen_ms, core.now_ms), TIE_MASK)
    if found.session == NO_REF and names(hit.kind):
        search_name(&core.skiplist, &searches[0], core.named, hit.user)
    if found.page == NO_REF and hit.kind != DEPARTED:
        search_name(&core.skiplist, &searches[1], core.urls, hit.url)
    search_time(&core.skiplist, &searches[2], head_of(core, hit.kind), key)
    if found.page != NO_REF and names(hit.kind):
        search_page(&core.skiplist, &searches[3], found.page, key)


cdef void take_fingers(Core* core, const Search* searches, int n_hits) noexcept nogil:
    """Keep where new users and urls will stand, and fetch the ends of the runs that new pages will follow."""
    cdef int i
    core.n_fingers = 2 * n_hits
    for i in range(n_hits):
        core.fingers[2 * i] = searches[SEARCHES_A_HIT * i].overshot
        core.fingers[2 * i + 1] = searches[SEARCHES_A_HIT * i + 1].overshot
        if core.fingers[2 * i + 1] != NO_REF:
            prefetch_record(&core.skiplist, page_at(&core.skiplist, core.fingers[2 * i + 1]).newest, 1)


cdef inline ref_t end_of_run(const Core* core, Found found, ref_t url_finger) noexcept nogil:
    """Return what a hit's session will stand behind by page, or, on a new page, what that page will; or NO_REF."""
    if found.page != NO_REF:
        return page_at(&core.skiplist, found.page).newest
    return NO_REF if url_finger == NO_REF else page_at(&core.skiplist, url_finger).newest


cdef inline int highest_link(const Core* core, Found found, const Ahead* ahead) noexcept nogil:
    """Return the height of the tallest record that a hit will link by page."""
    cdef int height = ahead.user_height
    if found.session != NO_REF:
        height = record_at(&core.skiplist, found.session).height
    return max(height, <int>ahead.url_height) if found.page == NO_REF else height


cdef void climb_ahead(const Core* core, const Found* found, int n_hits, const Ahead* ahead) noexcept nogil:
    """Fetch what linking sessions and pages by page will climb along, as far as CLIMB_STEPS."""
    cdef ref_t at[HITS_AT_ONCE]
    cdef int heights[HITS_AT_ONCE]
    cdef Record* record
    cdef int i, n = 0, n_left, _step
    for i in range(n_hits):
        at[n] = end_of_run(core, found[i], core.fingers[2 * i + 1])
        heights[n] = highest_link(core, found[i], &ahead[i])
        if at[n] != NO_REF:
            at[n] = next_of(&core.skiplist, BY_PAGE, at[n])
            prefetch_record(&core.skiplist, at[n], 1)
            n += heights[n] > 1
    for _step in range(CLIMB_STEPS):
        n_left = 0
        for i in range(n):
            record = record_at(&core.skiplist, at[i])
            if record.height >= heights[i]:
                prefetch_record(&core.skiplist, record.levels[heights[i] - 1].by[<int>BY_PAGE].prev, 1)
                continue
            at[n_left] = record.levels[record.height - 1].by[<int>BY_PAGE].next
            heights[n_left] = heights[i]
            prefetch_record(&core.skiplist, at[n_left], 1)
            n_left += 1
        n = n_left


cdef void look_ahead(Core* core, const Hit* hits, int n_hits, const Ahead* ahead,
                     const Outcome* outcomes) noexcept nogil:
    """Bring into the cache what hits that are good in themselves will touch, and take fingers.

    A hit touches about a dozen cache lines, each named by the one before, a search several times as many. Here the
    chains of all hits are walked side by side, so that the waits for memory overlap. Nothing but fingers is kept:
    applying the hits finds the rest again, at little cost, however one of them changes what the next one meets.
    """
    cdef Search searches[SEARCHES_A_HIT * HITS_AT_ONCE]
    cdef Found found[HITS_AT_ONCE]
    cdef int i
    for i in range(n_hits):
        table_prefetch(&core.users, ahead[i].user_hash)
        table_prefetch(&core.pages, ahead[i].url_hash)
    for i in range(n_hits):
        found[i].session = table_guess(&core.users, ahead[i].user_hash)
        found[i].page = table_guess(&core.pages, ahead[i].url_hash)
        prefetch_record(&core.skiplist, found[i].session, 1)
        prefetch_record(&core.skiplist, found[i].page, 1)
    for i in range(n_hits):
        prefetch_links(core, found[i])
    for i in range(SEARCHES_A_HIT * n_hits):
        searches[i].level = -1
        searches[i].overshot = NO_REF
    for i in range(n_hits):
        prefetch_left(core, found[i])
        if outcomes[i] == ACCEPTED:
            begin_searches(core, &hits[i], found[i], &searches[SEARCHES_A_HIT * i])
    skiplist_search(&core.skiplist, searches, SEARCHES_A_HIT * n_hits)
    take_fingers(core, searches, n_hits)
    climb_ahead(core, found, n_hits, ahead)


cdef void core_hits(Core* core, const Hit* hits, int n_hits, Outcome* outcomes) noexcept nogil:
    """Carry out up to HITS_AT_ONCE hits in order, each as `core_hit` does; `outcomes` tells what became of them."""
    cdef Ahead ahead[HITS_AT_ONCE]
    cdef int i
    for i in range(n_hits):
        ahead[i] = look(core, &hits[i])
        outcomes[i] = core_check_hit(core, &hits[i])
    look_ahead(core, hits, n_hits, ahead, outcomes)
    for i in range(n_hits):
        ahead[i].user_finger = core.fingers[2 * i]
        ahead[i].url_finger = core.fingers[2 * i + 1]
        outcomes[i] = settle_hit(core, &hits[i], &ahead[i], outcomes[i])
    core.n_fingers = 0
    table_settle(&core.users, n_hits)
    table_settle(&core.pages, n_hits)


# Lists. A listing stands before the next session to list; it is valid until the index changes.

cdef Listing core_list_page(Core* core, ref_t page) noexcept nogil:
    """List a page's sessions, newest first; NO_REF has none. O(1)."""
    cdef Listing listing
    listing.order = BY_PAGE
    listing.prefix = NO_NAME
    listing.end = page
    listing.at = NO_REF if page == NO_REF else page_at(&core.skiplist, page).newest
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


cdef int64_t core_list(Core* core, Listing* listing, ref_t* sessions, int64_t limit) noexcept nogil:
    """Write the next sessions, at most `limit`, and step over them; returns how many. O(sessions)."""
    cdef int64_t n = 0
    while n < limit and core_has_more(core, listing):
        sessions[n] = listing.at
        n += 1
        if listing.order == BY_NAME:
            listing.at = next_of(&core.skiplist, BY_NAME, listing.at)
        else:
            listing.at = prev_of(&core.skiplist, listing.order, listing.at)
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


# Sums over pages

cdef bint core_section(Core* core, Name prefix, int64_t* people, int64_t* n_pages) noexcept nogil:
    """Add up people and pages over the urls that begin with `prefix`; False beyond `max_scan` pages."""
    cdef ref_t page = first_from(core, core.urls, prefix)
    people[0] = n_pages[0] = 0
    while page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
        if n_pages[0] == core.max_scan:
            return False
        n_pages[0] += 1
        people[0] += core_page_people(core, page)
        page = next_of(&core.skiplist, BY_NAME, page)
    return True


cdef inline bint ranks_below(const Core* core, const Ranked* one, const Ranked* other) noexcept nogil:
    """Whether a page has fewer people, or as many and the later url. Places without people are all alike."""
    if one.people != other.people or one.people == 0:
        return one.people < other.people
    return compare_names(name_of(&core.skiplist, one.page), name_of(&core.skiplist, other.page)) > 0


cdef void sift_down(const Core* core, Ranked* heap, int64_t n, int64_t i) noexcept nogil:
    """Restore a heap with the lowest rank on top, after entry `i` was raised."""
    cdef Ranked moved = heap[i]
    cdef int64_t child
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and ranks_below(core, &heap[child + 1], &heap[child]):
            child += 1
        if not ranks_below(core, &heap[child], &moved):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = moved


cdef inline void rank(const Core* core, ref_t page, Ranked* heap, int64_t n) noexcept nogil:
    """Let a page take the place of the lowest in the heap, if it ranks above."""
    cdef Ranked ranked
    ranked.people = core_page_people(core, page)
    ranked.page = page
    if ranks_below(core, &heap[0], &ranked):
        heap[0] = ranked
        sift_down(core, heap, n, 0)


cdef void rank_all(const Core* core, const Slots* slots, Ranked* heap, int64_t n) noexcept nogil:
    """Rank the pages of a hash table as they stand there: side by side, so that memory can be fetched ahead."""
    cdef uint64_t i, n_slots = 0 if slots.at == NULL else <uint64_t>slots.mask + 1
    for i in range(n_slots):
        if i + TOP_AHEAD < n_slots and slots.at[i + TOP_AHEAD].ref != NO_REF:
            prefetch(record_at(&core.skiplist, slots.at[i + TOP_AHEAD].ref))
        if slots.at[i].ref != NO_REF:
            rank(core, slots.at[i].ref, heap, n)


cdef int64_t core_top(Core* core, Name prefix, Ranked* heap, int64_t limit) noexcept nogil:
    """Find the `limit` pages with most people among those that begin with `prefix`, most first; returns how many.

    O(pages that begin so). `heap` has room for `limit`, at least 1.
    """
    cdef ref_t page
    cdef int64_t n = limit, n_ranked = 0
    cdef Ranked lowest
    memset(heap, 0, limit * sizeof(Ranked))
    if prefix.n_bytes == 0:
        rank_all(core, &core.pages.now, heap, limit)
        rank_all(core, &core.pages.old, heap, limit)
    else:
        page = first_from(core, core.urls, prefix)
        while page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
            rank(core, page, heap, limit)
            page = next_of(&core.skiplist, BY_NAME, page)
    while n > 0:
        n -= 1
        lowest = heap[0]
        heap[0] = heap[n]
        sift_down(core, heap, n, 0)
        heap[n] = lowest
        n_ranked += lowest.people > 0
    return n_ranked
