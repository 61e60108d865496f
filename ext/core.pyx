"""Who is online, in C: hits, leaves, expiry and counts, on top of the multi-indexed skiplist.

Its job: the rules of hits, and the answers about one user or one page. Not its job: how records are linked (skiplist),
lists and their cursors (lists), sums over pages (sections), hits side by side (ahead), Python objects (index), any
dialect (connection and on), and clocks: `now_ms` is always an argument.
Whoever asks first calls `core_advance`, and then what settles the part of the index that the question reads.

A user has one session, the newest hit. Members and guests stand by time, by name and by page. Sessions that no list
may name (hidden, bots, departed) stand by time alone, under a head of their own: nothing ever asks for them in
another order, and no list has to step over them.

Invariants, beside those of the skiplist and the tables:
1. Every session is in `users`, every page in `pages`; a page has at least one session, a departed session no page.
2. A session stands by time under `named` or `unnamed` as its kind says; under `named` also by name, and by page in the
   run of its page.
3. `kinds`, `people` and `seconds` are sums over the sessions inside the window of `now_ms`, which never goes back.
   Every page's `counts` are sums over all its sessions.
4. `overdue` sessions have left the window and are still linked. They stand at the oldest ends: of the two orders by
   time, and of every page's run.
5. What can fail (memory, limits) fails before anything is changed.

Expiry. A million users may leave the window in one second, and to drop them takes half a second. So time moves on at
once, and sessions are dropped in slices (`core_expire_some`). Answers are exact meanwhile, because each question
settles what it reads, and no more:
- Totals: each second keeps its own counts. When a second leaves the window, they are taken off the totals.
- A page: its overdue sessions are at the oldest end of its run, and are dropped from there. Hidden users and bots
  stand in no run; on a page that has some, all overdue sessions of that sort are dropped first.
- Lists by time end where the first overdue session stands. Lists by name drop those that they meet.
- A hit replaces its user's session, overdue or not: it is newer. A limit is judged once nothing overdue is in its way.
A question that would have to drop too many gives up its turn and goes on in the next one, where it left off.

Places in time. A session's key is its time modulo 2^28 ms (74 hours) and, below it, a tie of 36 bits: one more than
the predecessor's within the same millisecond, so that arrival orders equal times. As all sessions are within one
window of at most 24 hours, keys compare right though they wrap around, and `now_ms` gives back the whole time.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from online.terms import SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS, SKEW_MS as _SKEW_MS

from online.core.arena cimport NO_REF, Purse, purse_give, purse_take, ref_t
from online.core.skiplist cimport (
    BY_NAME, BY_PAGE, BY_TIME, DEPARTED, GUEST, HEAD, HIDDEN, MAX_HEIGHT, PAGE, Kind, Name, Page, Record, Skiplist,
    height_of, kind_at, name_of, next_of, page_at, prev_of, record_at, set_kind, skiplist_close,
    skiplist_enter_run, skiplist_free, skiplist_leave_run, skiplist_link, skiplist_new, skiplist_open,
    skiplist_seek_name, skiplist_seek_page, skiplist_seek_time, skiplist_unlink, skiplist_walk_name,
)
from online.core.slots cimport owns
from online.core.table cimport (
    Table, table_add, table_bytes, table_close, table_find, table_open, table_remove, table_reserve, table_used,
)

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS
cdef int64_t SKEW_MS = _SKEW_MS
cdef Name NO_NAME
NO_NAME.at = ""

#: Keys of time compare right within this distance: half of what their bits can tell apart. 37 hours.
cdef int64_t REACH_MS = <int64_t>(MS_MASK // 2)

cdef enum:
    EXPIRED_AT_ONCE = 64                                 # to make room for a hit


# Beginning and end

cdef bint core_open(Core* core, Purse* purse, const uint64_t* secrets) noexcept nogil:
    """Make an empty index of a zeroed Core whose `window_s` and limits are set; False if there is no memory.

    `purse` must outlive it. `secrets`: four random words, for hashes and cursors.
    `core_close` is to be called in either case.
    """
    core.users.purse = core.pages.purse = core.skiplist.arena.purse = purse
    core.hash_key.k0, core.hash_key.k1 = secrets[0], secrets[1]
    core.cursor_key.k0, core.cursor_key.k1 = secrets[2], ~secrets[3]  # another key, though a short seed repeats
    core.now_ms = core.window_s * 1000 - 1000  # so the window begins at 0
    core.visits_from_ms = INT64_MIN
    core.seconds = new_seconds(purse, core.window_s)
    if core.seconds == NULL:
        return False
    if not (skiplist_open(&core.skiplist, purse)
            and table_open(&core.users, purse) and table_open(&core.pages, purse)):
        return False
    core.named = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    core.unnamed = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    core.urls = skiplist_new(&core.skiplist, HEAD, NO_NAME, 0, MAX_HEIGHT)
    return core.named != NO_REF and core.unnamed != NO_REF and core.urls != NO_REF


cdef Second* new_seconds(Purse* purse, int64_t window_s) noexcept nogil:
    """Return the empty seconds of a window, or NULL if there is no memory."""
    cdef Second* seconds
    if not purse_take(purse, window_s * sizeof(Second)):
        return NULL
    seconds = <Second*>calloc(window_s, sizeof(Second))
    if seconds == NULL:
        purse_give(purse, window_s * sizeof(Second))
    return seconds


cdef bint core_set_window(Core* core, int64_t window_s) noexcept nogil:
    """Go by another window; False if there is no memory, and nothing has changed. Requires: there are no sessions."""
    cdef Purse* purse = core.skiplist.arena.purse
    cdef Second* seconds = new_seconds(purse, window_s)
    if seconds == NULL:
        return False
    purse_give(purse, core.window_s * sizeof(Second))
    free(core.seconds)
    core.seconds, core.window_s = seconds, window_s
    core.now_ms = max(core.now_ms, window_s * 1000 - 1000)  # as in core_open
    core.first_ms = (core.now_ms // 1000 - window_s + 1) * 1000
    return True


cdef void core_close(Core* core) noexcept nogil:
    """Free all that `core_open` and hits have taken. O(1), but for giving memory back."""
    if core.seconds != NULL:
        purse_give(core.skiplist.arena.purse, core.window_s * sizeof(Second))
    free(core.seconds)
    table_close(&core.users)
    table_close(&core.pages)
    skiplist_close(&core.skiplist)


cdef int64_t core_memory_bytes(const Core* core) noexcept nogil:
    """Return what the index has taken from the system. O(1)."""
    cdef int64_t n_bytes = core.skiplist.arena.used_bytes + core.window_s * <int64_t>sizeof(Second)
    return n_bytes + <int64_t>(table_bytes(&core.users) + table_bytes(&core.pages))


# Finding

cdef ref_t core_find_user(const Core* core, Name user) noexcept nogil:
    """Return the user's session, departed or not, or NO_REF. O(1) expected."""
    cdef ref_t session = table_find(&core.users, &core.skiplist, core_hash(core, user), user)
    return NO_REF if session == NO_REF or core_is_overdue(core, session) else session


cdef ref_t core_find_page(const Core* core, Name url) noexcept nogil:
    """Return the page of this url, with what is overdue on it, or NO_REF. O(1) expected."""
    return table_find(&core.pages, &core.skiplist, core_hash(core, url), url)


# Pages come and go

cdef inline ref_t seek_name(const Core* core, ref_t head, ref_t finger, Name name) noexcept nogil:
    """Return the last record by name that is not greater than `name`, or the head; `finger` may be NO_REF."""
    if finger == NO_REF:
        return skiplist_seek_name(&core.skiplist, head, name)
    return skiplist_walk_name(&core.skiplist, head, finger, name)


cdef void unlink_name(Core* core, ref_t ref) noexcept nogil:
    """Take a record out of its order by name; fingers that pointed at it step back. O(1) expected."""
    cdef ref_t before = prev_of(&core.skiplist, BY_NAME, ref)
    cdef bint is_pointed_at = False
    cdef int i
    for i in range(core.n_fingers):  # nearly always none does: without a branch, it takes a quarter
        is_pointed_at |= core.fingers[i] == ref
    if is_pointed_at:
        for i in range(core.n_fingers):
            if core.fingers[i] == ref:
                core.fingers[i] = before
    skiplist_unlink(&core.skiplist, BY_NAME, ref)


cdef void link_page(Core* core, ref_t page, ref_t finger) noexcept nogil:
    """Give a new page its place among urls. O(log n)."""
    cdef ref_t before = seek_name(core, core.urls, finger, name_of(&core.skiplist, page))
    skiplist_link(&core.skiplist, BY_NAME, page, before)
    table_add(&core.pages, page_at(&core.skiplist, page).hash, page)


cdef void drop_page(Core* core, ref_t page) noexcept nogil:
    unlink_name(core, page)
    table_remove(&core.pages, page_at(&core.skiplist, page).hash, page)
    skiplist_free(&core.skiplist, page)


cdef inline void enter_page(Core* core, ref_t session, int kind) noexcept nogil:
    """Count the session on its page and, if lists may name it, put it into the page's run. O(1) in time order."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef ref_t before
    page_at(&core.skiplist, record.page).counts[kind] += 1
    if names(kind):
        before = skiplist_seek_page(&core.skiplist, record.page, record.key)
        skiplist_enter_run(&core.skiplist, record.page, session, before)


cdef inline void leave_page(Core* core, ref_t session, int kind) noexcept nogil:
    """Undo `enter_page`; the page may stay behind without sessions. O(1)."""
    cdef ref_t page = record_at(&core.skiplist, session).page
    page_at(&core.skiplist, page).counts[kind] -= 1
    if names(kind):
        skiplist_leave_run(&core.skiplist, page, session)


# Sessions come, move and go

cdef void count_session(Core* core, int kind, int64_t seen_ms, int by) noexcept nogil:
    core.kinds[kind] += by
    core.people += by * are_people(kind)
    core.seconds[<uint64_t>seen_ms // 1000 % <uint64_t>core.window_s].kinds[kind] += <uint32_t>by


cdef inline void forget_overdue(Core* core, int kind) noexcept nogil:
    core.overdue -= 1
    core.overdue_unnamed -= not names(kind)


cdef inline void note_change(Core* core, ref_t page, int kind, int by) noexcept nogil:
    """Tell all who watch. Every change comes here, expiry too."""
    cdef Watch* watch = core.watches
    while watch != NULL:
        watch.changed(watch, page, kind, by)
        watch = watch.next


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
    set_kind(record, kind)
    record.page = page
    record.key = key
    skiplist_link(skiplist, BY_TIME, session, before)
    if page != NO_REF:
        enter_page(core, session, kind)
    count_session(core, kind, seen_ms, 1)
    note_change(core, page, kind, 1)


cdef void detach(Core* core, ref_t session, int64_t seen_ms) noexcept nogil:
    """Undo `attach`; the page may stay behind without sessions."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef int kind = kind_at(&core.skiplist, session)
    if core_is_online(core, seen_ms):
        count_session(core, kind, seen_ms, -1)
    else:
        forget_overdue(core, kind)
    if record.page != NO_REF:
        leave_page(core, session, kind)
    skiplist_unlink(&core.skiplist, BY_TIME, session)
    note_change(core, record.page, kind, -1)


cdef void link_name(Core* core, ref_t session, ref_t finger) noexcept nogil:
    """Put a session into the order by name, if there is one. O(log n)."""
    cdef ref_t before
    if core.without_names:
        return
    before = seek_name(core, core.named, finger, name_of(&core.skiplist, session))
    skiplist_link(&core.skiplist, BY_NAME, session, before)


cdef void leave_names(Core* core, ref_t session) noexcept nogil:
    """Undo `link_name`. O(1) expected."""
    if not core.without_names:
        unlink_name(core, session)


# Time moves on

cdef void tell_gone(Core* core, ref_t session) noexcept nogil:
    """Tell that a session ends: it expires, or its user leaves."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef Name url = NO_NAME
    if record.page != NO_REF:
        url = name_of(&core.skiplist, record.page)
    core.gone(
        core.past, kind_at(&core.skiplist, session), name_of(&core.skiplist, session), url, ms_of(core, record.key))


cdef void expire_session(Core* core, ref_t session) noexcept nogil:
    """Drop a session that is overdue, and tell. O(1) expected."""
    if core.gone != NULL:
        tell_gone(core, session)
    core_forget(core, session)


cdef void core_forget(Core* core, ref_t session) noexcept nogil:
    """Drop a session, and its page if it was the last one there, and tell nobody whose it was. O(1) expected."""
    cdef ref_t page = record_at(&core.skiplist, session).page
    detach(core, session, core_seen_ms(core, session))
    if core_is_named(core, session):
        leave_names(core, session)
    if page != NO_REF and sessions_on(core, page) == 0:
        drop_page(core, page)
    table_remove(&core.users, core_hash(core, name_of(&core.skiplist, session)), session)
    skiplist_free(&core.skiplist, session)


cdef int64_t expire_order(Core* core, ref_t head, int64_t before_ms, int64_t most) noexcept nogil:
    """Drop up to `most` sessions of one order by time that were seen before a time; return how many."""
    cdef ref_t oldest = next_of(&core.skiplist, BY_TIME, head)
    cdef int64_t n = 0
    while n < most and oldest != head and core_seen_ms(core, oldest) < before_ms:
        expire_session(core, oldest)
        n += 1
        oldest = next_of(&core.skiplist, BY_TIME, head)
    return n


cdef int64_t core_expire_some(Core* core, int64_t most) noexcept nogil:
    """Drop up to `most` overdue sessions, oldest first; return how many. O(1) expected for each."""
    cdef int64_t n = 0
    if core.overdue_unnamed:
        n = expire_order(core, core.unnamed, core.first_ms, most)
    if core.overdue:
        n += expire_order(core, core.named, core.first_ms, most - n)
    return n


cdef void pass_second(Core* core, int64_t second) noexcept nogil:
    """Take those who were seen in a second off the totals: they are overdue from now on."""
    cdef Second* counts = &core.seconds[second % core.window_s]
    cdef int kind
    for kind in range(5):
        core.kinds[kind] -= counts.kinds[kind]
        core.people -= counts.kinds[kind] * are_people(kind)
        core.overdue += counts.kinds[kind]
        core.tally.expired += counts.kinds[kind]
        core.overdue_unnamed += 0 if names(kind) else counts.kinds[kind]
    memset(counts, 0, sizeof(Second))


cdef void core_advance(Core* core, int64_t now_ms) noexcept nogil:
    """Let the time be `now_ms`, unless it is later already: what has left the window is overdue. Drops nothing.

    O(1) within a second; O(seconds passed), at most O(window_s). Only after a sleep of many hours, what would get out
    of the reach of the keys of time is dropped here, at 0.2 to 1 us each.
    """
    cdef int64_t first_s = core.first_ms // 1000
    cdef int64_t now_first_s = now_ms // 1000 - core.window_s + 1
    cdef int64_t second
    if now_ms <= core.now_ms:
        return
    if now_first_s > first_s:
        for second in range(first_s, min(now_first_s, first_s + core.window_s)):
            pass_second(core, second)
        core.first_ms = now_first_s * 1000
        if core.overdue:
            expire_order(core, core.unnamed, now_ms - REACH_MS, core.overdue)
            expire_order(core, core.named, now_ms - REACH_MS, core.overdue)
    core.now_ms = now_ms


cdef bint core_settle_page(Core* core, Name url, bint with_bots, int64_t* left, ref_t* page) noexcept nogil:
    """Find a page and drop what is overdue on it: its run and its counts are exact then. NO_REF if nobody is left.

    `with_bots`: the count of bots is to be exact, too. Returns False when `left` sessions were dropped and more are
    overdue; `left` falls by each. O(1) expected for each.
    """
    cdef ref_t oldest
    cdef const Page* at
    cdef bint is_last
    page[0] = core_find_page(core, url)
    if core.overdue == 0 or page[0] == NO_REF:
        return True
    at = page_at(&core.skiplist, page[0])
    if core.overdue_unnamed and (at.counts[<int>HIDDEN] or (with_bots and at.counts[<int>BOT])):
        left[0] -= expire_order(core, core.unnamed, core.first_ms, left[0])
        if core.overdue_unnamed:
            return False
        page[0] = core_find_page(core, url)
    while page[0] != NO_REF:
        oldest = next_of(&core.skiplist, BY_PAGE, page[0])
        if kind_at(&core.skiplist, oldest) > <int>GUEST or not core_is_overdue(core, oldest):
            return True
        if left[0] == 0:
            return False
        left[0] -= 1
        is_last = sessions_on(core, page[0]) == 1
        expire_session(core, oldest)
        if is_last:
            page[0] = NO_REF
    return True


# Hits

cdef inline Outcome check_hit(const Core* core, const Hit* hit) noexcept nogil:
    """Return what is wrong with a hit in itself, or ACCEPTED. O(1), or O(bytes) of the user if users are divided."""
    if not 0 < hit.user.n_bytes <= core.max_user:
        return BAD_USER
    if hit.kind != DEPARTED and not 0 < hit.url.n_bytes <= core.max_url:
        return BAD_URL
    if not SEEN_MIN_MS <= hit.seen_ms <= SEEN_MAX_MS:
        return BAD_SEEN
    if not 0 <= hit.kind <= <int>DEPARTED:
        return BAD_KIND
    if core.owned != NULL and not owns(core.owned, hit.user):
        return MOVED
    return ACCEPTED


cdef Outcome core_check_hit(const Core* core, const Hit* hit) noexcept nogil:
    """As `check_hit`, for other modules: what each hit passes is inline."""
    return check_hit(core, hit)


cdef inline void count_outcome(Core* core, const Hit* hit, Outcome outcome) noexcept nogil:
    if outcome == ACCEPTED:
        core.tally.accepted += 1
        if hit.kind == DEPARTED:
            core.tally.left += 1
        if hit.seen_ms > core.now_ms + SKEW_MS:
            core.tally.skewed += 1
    elif outcome == LATE:
        core.tally.late += 1
    elif outcome == STALE:
        core.tally.stale += 1
    else:
        core.tally.refused += 1
        if outcome >= FULL_USERS:
            core.tally.full[<int>outcome - <int>FULL_USERS] += 1
        elif outcome == MOVED:
            core.owned.moved += 1


cdef inline ref_t new_record(
        Core* core, Table* table, Kind kind, Name name, uint64_t hash) noexcept nogil:
    """Make a record that its table has room for, or return NO_REF."""
    if not table_reserve(table):
        return NO_REF
    return skiplist_new(&core.skiplist, kind, name, <uint32_t>hash, height_of(hash))


cdef void note_most(Core* core) noexcept nogil:
    """Take note that more people are online than ever before in this minute."""
    core.most_people = core.people
    core.most_at_ms = core.now_ms
    if core.people > core.peak:
        core.peak = core.people
        core.peak_at_ms = core.now_ms


cdef void core_begin_minute(Core* core) noexcept nogil:
    """Let the greatest counts be those of now. O(1). Requires: core_advance was called."""
    cdef int kind
    core.most_people = core.people
    core.most_at_ms = core.now_ms
    for kind in range(5):
        core.most_kinds[kind] = core.kinds[kind]


cdef Outcome make_records(Core* core, const Hit* hit, const Ahead* ahead, ref_t* session, ref_t* page) noexcept nogil:
    """Make the records that a hit wants and has not (NO_REF), or none if a limit does not let it."""
    cdef bint is_new = session[0] == NO_REF
    cdef bint is_new_page = page[0] == NO_REF and hit.kind != DEPARTED
    cdef ref_t left = NO_REF if is_new else record_at(&core.skiplist, session[0]).page
    cdef int64_t freed
    if is_new and (table_used(&core.users) >= core.max_users
                   or hit.kind == DEPARTED and core.kinds[<int>DEPARTED] >= core.max_strangers):
        return FULL_USERS
    if is_new_page:
        freed = left != NO_REF and sessions_on(core, left) == 1
        if table_used(&core.pages) - freed >= core.max_pages:
            return FULL_PAGES
    if is_new:
        session[0] = new_record(core, &core.users, <Kind>hit.kind, hit.user, ahead.user_hash)
        if session[0] == NO_REF:
            return FULL_MEMORY
    if is_new_page:
        page[0] = new_record(core, &core.pages, PAGE, hit.url, ahead.url_hash)
        if page[0] == NO_REF:
            if is_new:
                skiplist_free(&core.skiplist, session[0])
            return FULL_MEMORY
        link_page(core, page[0], ahead.url_finger)
    if is_new:
        table_add(&core.users, <uint32_t>ahead.user_hash, session[0])
    return ACCEPTED


cdef Outcome apply_hit(
    Core* core, const Hit* hit, Ahead* ahead, ref_t session, int64_t newest_ms, int64_t seen_ms
) noexcept nogil:
    """Make a hit its user's session, or change nothing if a limit does not let it.

    `session` is the one until now, of `newest_ms`, or NO_REF.
    """
    cdef bint is_new = session == NO_REF
    cdef bint was_named = not is_new and core_is_named(core, session)
    cdef ref_t left = NO_REF if is_new else record_at(&core.skiplist, session).page
    cdef ref_t page = NO_REF, made = session, made_page
    cdef Outcome outcome
    if hit.kind != DEPARTED:
        page = table_find(&core.pages, &core.skiplist, <uint32_t>ahead.url_hash, hit.url)
    if is_new or page == NO_REF:
        made_page = page
        outcome = make_records(core, hit, ahead, &made, &made_page)
        if outcome != ACCEPTED:
            return outcome
        session = made
        page = made_page
    if not is_new:
        if hit.kind == DEPARTED and core.gone != NULL:
            tell_gone(core, session)
        detach(core, session, newest_ms)
    attach(core, session, hit.kind, page, seen_ms)
    if left != NO_REF and sessions_on(core, left) == 0:
        drop_page(core, left)
    if names(hit.kind) and not was_named:
        link_name(core, session, ahead.user_finger)
    elif was_named and not names(hit.kind):
        leave_names(core, session)
    if core.people > core.most_people:
        note_most(core)
    if core.kinds[hit.kind] > core.most_kinds[hit.kind]:
        core.most_kinds[hit.kind] = core.kinds[hit.kind]
    ahead.written_ms = seen_ms
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


cdef Outcome judge_hit(Core* core, const Hit* hit, Ahead* ahead) noexcept nogil:
    """Carry out a hit that is good in itself, without counting what became of it."""
    cdef int64_t seen_ms = min(hit.seen_ms, core.now_ms)
    cdef ref_t session
    cdef int64_t newest_ms = INT64_MIN
    cdef Outcome outcome
    cdef Ahead again
    if not core_is_online(core, seen_ms):
        if core.gone != NULL and hit.kind != DEPARTED:
            core.gone(core.past, hit.kind, hit.user, hit.url, seen_ms)
        return LATE
    session = table_find(&core.users, &core.skiplist, <uint32_t>ahead.user_hash, hit.user)
    if session != NO_REF:
        newest_ms = core_seen_ms(core, session)
        if seen_ms < newest_ms:
            return STALE
        if seen_ms == newest_ms:
            if is_repeat(core, session, hit):
                return ACCEPTED
            if core.ties_by_rank and not outranks(core, hit, session):
                return STALE
            core.tally.tied += 1
    elif core.keeps_nothing:
        ahead.written_ms = seen_ms
        return ACCEPTED
    outcome = apply_hit(core, hit, ahead, session, newest_ms, seen_ms)
    while outcome >= FULL_USERS and core_expire_some(core, EXPIRED_AT_ONCE):
        again = ahead[0]
        again.user_finger = again.url_finger = NO_REF  # they may have gone
        session = table_find(&core.users, &core.skiplist, <uint32_t>ahead.user_hash, hit.user)
        outcome = apply_hit(core, hit, &again, session, newest_ms, seen_ms)
    if newest_ms < core.visits_from_ms and outcome == ACCEPTED:
        core.visit(core.past, hit, seen_ms, newest_ms)
    return outcome


cdef Outcome core_settle_hit(Core* core, const Hit* hit, Ahead* ahead) noexcept nogil:
    """Carry out a hit unless something is wrong with it in itself, and count what became of it. `core_tell` follows."""
    cdef Outcome outcome = check_hit(core, hit)
    if outcome == ACCEPTED:
        outcome = judge_hit(core, hit, ahead)
    count_outcome(core, hit, outcome)
    return outcome


cdef Outcome core_hit(Core* core, const Hit* hit) noexcept nogil:
    """Make `hit` its user's session if it is the newest; kind DEPARTED takes the user offline.

    O(1) expected in time order; O(log d) for a hit d places out of order; O(log n) for a new user or url.
    Requires: core_advance(core, now_ms) was called, and hit.seen_ms is given.
    Returns: ACCEPTED (also for an exact repeat); LATE or STALE, ignored; or why it was refused. All are counted;
    all but ACCEPTED change nothing else.
    """
    cdef Ahead ahead
    cdef Outcome outcome
    core_look(core.hash_key, hit, &ahead)
    outcome = core_settle_hit(core, hit, &ahead)
    core_tell(core, hit, &ahead)
    return outcome
