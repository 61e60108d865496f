"""The Python surface of an index: arguments checked, answers as Python objects. Contracts stand in index.pyi.

Its job: to stand between Python and core.pyx, and to examine an index for tests. Not its job: any rule of hits.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

import os

from online import errors
from online.terms import KINDS, IndexStatistics
from online.terms import SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S

from online.core.arena cimport NO_REF, Purse, ref_t
from online.core.core cimport (
    ACCEPTED, BAD_KIND, BAD_SEEN, BAD_URL, BAD_USER, FULL_PAGES, FULL_USERS, MOVED, Core, Hit, Outcome, Tally,
    core_advance, core_begin_minute, core_check_hit, core_close, core_expire_some, core_find_user, core_forget,
    core_hash, core_hit, core_is_named, core_is_online, core_memory_bytes, core_oldest, core_open, core_page_people,
    core_people_within, core_seen_ms, core_set_window, core_settle_page,
)
from online.core.lists cimport (
    OF_PAGE, OF_RECENT, OF_USERS, Listing, Scope,
    core_continue, core_cursor, core_cursor_bytes, core_has_more, core_list, core_list_page, core_list_recent,
    core_list_users,
)
from online.core.nameorder cimport core_order_names
from online.core.sections cimport (
    ANSWERED, TOO_LONG, Asked, Ranked, core_section, core_top, sections_close, sections_retire,
)
from online.core.skiplist cimport (
    BY_NAME, BY_PAGE, BY_TIME, DEPARTED, MAX_HEIGHT, MAX_NAME_BYTES, PAGE,
    Link, Name, Order, Skiplist, height_at, kind_at, later_by, link_at, name_of, newest_of, next_of, page_at, record_at,
)
from online.core.slots cimport Slots
from online.core.table cimport Table, table_find, table_used

__all__ = ["Budget", "Index"]

cdef extern from "Python.h":
    bint PyGC_Disable()
    bint PyGC_Enable()

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS
cdef Name NO_NAME
NO_NAME.at = ""


@cython.final
cdef class Budget:
    def __init__(self, limit_bytes not None):
        self.limit_bytes = limit_bytes

    @property
    def limit_bytes(self):
        return self.purse.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, value):
        if not 0 < value < 2 ** 62:
            raise ValueError(f"limit_bytes takes 1 to 2**62, not {value}")
        self.purse.limit_bytes = value

    @property
    def used_bytes(self):
        return self.purse.used_bytes


cdef int64_t number_from(str what, value, int64_t low, int64_t high) except? -1:
    if not isinstance(value, int):
        raise TypeError(f"{what} takes an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise errors.bad_number(what, value, low, high)
    return value


cdef out_of_memory(Index self):
    if self.budget is None:
        return MemoryError("no memory for another session or page")
    return errors.full("max_memory", self.budget.limit_bytes)


cdef int advance(Index self, now_ms) except -1:
    """Check `now_ms` and let it be the time; every public method begins with its own checks, then this."""
    core_advance(&self.core, number_from("now_ms", now_ms, SEEN_MIN_MS, SEEN_MAX_MS))
    return 0


cdef ref_t settled_page(Index self, Name url, bint with_bots=False) noexcept:
    """Return a page whose run and counts are exact, or NO_REF."""
    cdef int64_t left = INT64_MAX
    cdef ref_t page
    core_settle_page(&self.core, url, with_bots, &left, &page)
    return page


cdef Name checked_name(Index self, str what, bytes text, bint may_be_empty=False) except *:
    """Return a view of a user, url or prefix given in a question."""
    cdef int64_t most = self.core.max_user if what == "user" else self.core.max_url
    if text is None:
        raise TypeError(f"{what} takes bytes, not None")
    if not (may_be_empty or text) or len(text) > most:
        raise errors.bad_name(what, text, most)
    return name_from(text)


cdef refusal(Index index, const Hit* hit, Outcome outcome, seen_ms):
    """Return the error that tells why a hit was refused; `seen_ms` is the time as it was given."""
    cdef Core* core = &index.core
    if outcome == BAD_USER:
        return errors.bad_name("user", bytes_from(hit.user), core.max_user)
    if outcome == BAD_URL:
        return errors.bad_name("url", bytes_from(hit.url), core.max_url)
    if outcome == BAD_SEEN:
        return errors.bad_seen(seen_ms)
    if outcome == MOVED:
        return index._slots.error_of(bytes_from(hit.user))
    if outcome == FULL_USERS:
        return errors.full("max_users", core.max_users)
    if outcome == FULL_PAGES:
        return errors.full("max_pages", core.max_pages)
    return out_of_memory(index)


cdef bint index_hit(Index self, bytes user, bytes url, seen_ms, str kind, int number, now_ms) except -1:
    cdef Core* core = &self.core
    cdef Hit hit
    cdef Outcome outcome
    cdef int64_t checked_ms = number_from("now_ms", now_ms, SEEN_MIN_MS, SEEN_MAX_MS)
    hit.user = name_from(user)
    hit.url = name_from(url)
    hit.kind = number
    hit.seen_ms = max(checked_ms, core.now_ms)
    if seen_ms is not None:
        if not isinstance(seen_ms, int):
            raise TypeError(f"seen_ms takes an int, not {type(seen_ms).__name__}")
        hit.seen_ms = seen_ms if SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS else -1
    if core_check_hit(core, &hit) == ACCEPTED:
        core_advance(core, checked_ms)
    outcome = core_hit(core, &hit)
    if outcome >= BAD_USER:
        if outcome == BAD_KIND:
            raise errors.bad_kind(kind.encode("utf-8", "backslashreplace"))
        raise refusal(self, &hit, outcome, seen_ms)
    return outcome == ACCEPTED


cdef check_number_of(Index self, str what, names):
    if len(names) > self.core.max_limit:
        raise errors.too_many(what, len(names), self.core.max_limit)


cdef tuple listed(Index self, Listing listing, Scope scope, Name of, int64_t limit, str cursor):
    """Return `([session, ...], cursor)`, each session as (user, url, seen_ms, kind)."""
    cdef Core* core = &self.core
    cdef bytes given
    cdef bint collects
    if cursor is not None:
        given = cursor.encode("utf-8", "backslashreplace")
        if not core_continue(core, &listing, scope, of, name_from(given)):
            raise errors.bad_cursor(given)
    # To make a tuple may start a garbage collection, and with it code that writes to this index.
    collects = PyGC_Disable()
    try:
        return list_sessions(core, &listing, scope, of, limit)
    finally:
        if collects:
            PyGC_Enable()


cdef tuple list_sessions(Core* core, Listing* listing, Scope scope, Name of, int64_t limit):
    cdef ref_t session, last = NO_REF
    cdef int64_t left = INT64_MAX
    cdef list sessions = []
    cdef bytes room
    while len(sessions) < limit:
        if core_list(core, listing, &session, 1, &left) == 0:
            break
        user = bytes_from(name_of(&core.skiplist, session))
        url = bytes_from(name_of(&core.skiplist, record_at(&core.skiplist, session).page))
        sessions.append((user, url, core_seen_ms(core, session), KINDS[kind_at(&core.skiplist, session)]))
        last = session
    if last == NO_REF or not core_has_more(core, listing):
        return sessions, None
    room = bytes(core_cursor_bytes(core))
    return sessions, room[:core_cursor(core, scope, of, last, <char*>room)].decode("ascii")


cdef seen_of(Index self, bytes user):
    cdef Core* core = &self.core
    cdef ref_t session = core_find_user(core, name_from(user))
    if session == NO_REF or not core_is_named(core, session):
        return None
    url = bytes_from(name_of(&core.skiplist, record_at(&core.skiplist, session).page))
    return url, core_seen_ms(core, session)


cdef int set_limits(Core* core, max_user, max_url, max_limit, max_scan) except -1:
    """Check and set what arguments are judged by, all or nothing."""
    cdef int64_t user = number_from("max_user", max_user, 1, MAX_NAME_BYTES)
    cdef int64_t url = number_from("max_url", max_url, 1, MAX_NAME_BYTES)
    cdef int64_t limit = number_from("max_limit", max_limit, 1, 2 ** 31 - 1)
    core.max_scan = number_from("max_scan", max_scan, 1, 2 ** 31 - 1)
    core.max_user, core.max_url, core.max_limit = <uint32_t>user, <uint32_t>url, <uint32_t>limit
    return 0


@cython.no_gc_clear  # its memory is given back to a budget that must be there still
cdef class Index:
    def __cinit__(self, *, window_s=1800, max_users=10_000_000, max_pages=10_000_000, max_user=256, max_url=2_048,
                  max_limit=1_000, max_scan=100_000, Budget budget=None, bytes seed=None,
                  bint keeps_nothing=False):
        cdef Core* core = &self.core
        cdef Purse* purse = &core.own_purse
        cdef uint64_t secrets[4]
        cdef bytes drawn
        core.window_s = number_from("window_s", window_s, WINDOW_MIN_S, WINDOW_MAX_S)
        core.max_users = number_from("max_users", max_users, 1, 2 ** 31 - 1)
        self.max_pages = number_from("max_pages", max_pages, 1, 2 ** 31 - 1)
        self.relax(False)
        set_limits(core, max_user, max_url, max_limit, max_scan)
        core.keeps_nothing = keeps_nothing
        if seed is not None:
            number_from("seed bytes", len(seed), 16, 16)
        drawn = os.urandom(sizeof(secrets)) if seed is None else 2 * seed
        memcpy(secrets, <const char*>drawn, sizeof(secrets))
        self.budget = budget
        if budget is not None:
            purse = &budget.purse
        if not core_open(core, purse, secrets):
            raise out_of_memory(self)

    def __dealloc__(self):
        sections_close(&self.core)
        core_close(&self.core)

    def __reduce__(self):
        raise TypeError("an Index cannot be copied or pickled; online.core.wire.dump writes its sessions")

    @property
    def slots(self):
        return self._slots

    @slots.setter
    def slots(self, Slots slots):
        self._slots = slots
        self.core.owned = NULL if slots is None else &slots.owned

    def judge_by(self, *, window_s, max_user, max_url, max_limit, max_scan):
        cdef int64_t window = number_from("window_s", window_s, WINDOW_MIN_S, WINDOW_MAX_S)
        if table_used(&self.core.users):
            raise ValueError("an index with users keeps its window and its limits")
        sections_close(&self.core)  # how much memory they have goes by the limits
        set_limits(&self.core, max_user, max_url, max_limit, max_scan)
        if not core_set_window(&self.core, window):
            raise out_of_memory(self)

    def hit(self, bytes user not None, bytes url not None, *, seen_ms=None, str kind not None="member", now_ms):
        cdef int number = -1
        if kind in KINDS:
            number = KINDS.index(kind)
        return index_hit(self, user, url, seen_ms, kind, number, now_ms)

    def leave(self, bytes user not None, *, seen_ms=None, now_ms):
        return index_hit(self, user, b"", seen_ms, "departed", DEPARTED, now_ms)

    def expire(self, most=None, *, now_ms):
        cdef int64_t n = INT64_MAX if most is None else number_from("most", most, 0, INT64_MAX)
        advance(self, now_ms)
        sections_retire(&self.core)
        return 0 if self.core.without_names else core_expire_some(&self.core, n)  # a thread may be ordering them

    def count(self, bytes url=None, within_s=None, *, now_ms):
        cdef Core* core = &self.core
        cdef int64_t within = 0
        cdef Name name = NO_NAME
        if url is not None:
            if within_s is not None:
                raise errors.within_one_page()
            name = checked_name(self, "url", url)
        elif within_s is not None:
            within = number_from("within_s", within_s, 1, core.window_s)
        advance(self, now_ms)
        if url is not None:
            return core_page_people(core, settled_page(self, name))
        return core_people_within(core, within) if within else core.people

    def counts(self, urls, *, now_ms):
        check_number_of(self, "urls", urls)
        for url in urls:
            checked_name(self, "url", url)
        advance(self, now_ms)
        return [core_page_people(&self.core, settled_page(self, name_from(url))) for url in urls]

    def kinds(self, bytes url=None, *, now_ms):
        cdef Core* core = &self.core
        cdef Name name = NO_NAME
        cdef ref_t page
        cdef int kind
        if url is not None:
            name = checked_name(self, "url", url)
        advance(self, now_ms)
        if url is None:
            return [core.kinds[kind] for kind in range(DEPARTED)]
        page = settled_page(self, name, with_bots=True)
        return [0 if page == NO_REF else page_at(&core.skiplist, page).counts[kind] for kind in range(DEPARTED)]

    def page(self, bytes url not None, limit=30, str cursor=None, *, now_ms):
        cdef Core* core = &self.core
        cdef Name name = checked_name(self, "url", url)
        cdef int64_t most = number_from("limit", limit, 0, core.max_limit)
        cdef ref_t page
        advance(self, now_ms)
        page = settled_page(self, name)
        sessions, following = listed(self, core_list_page(core, page), OF_PAGE, name, most, cursor)
        viewers = [(user, seen_ms, kind) for user, _, seen_ms, kind in sessions]
        return core.people, core_page_people(core, page), viewers, following

    def recent(self, limit=30, str cursor=None, *, now_ms):
        cdef int64_t most = number_from("limit", limit, 0, self.core.max_limit)
        advance(self, now_ms)
        return listed(self, core_list_recent(&self.core), OF_RECENT, NO_NAME, most, cursor)

    def users(self, bytes prefix not None=b"", limit=30, str cursor=None, *, now_ms):
        cdef Name name = NO_NAME
        cdef int64_t most
        if len(prefix) > self.core.max_user:
            raise errors.bad_name("prefix", prefix, self.core.max_user)
        name = name_from(prefix)
        most = number_from("limit", limit, 0, self.core.max_limit)
        advance(self, now_ms)
        return listed(self, core_list_users(&self.core, name), OF_USERS, name, most, cursor)

    def seen(self, users, *, now_ms):
        check_number_of(self, "users", users)
        for user in users:
            checked_name(self, "user", user)
        advance(self, now_ms)
        return [seen_of(self, user) for user in users]

    def last(self, bytes user not None, *, now_ms):
        cdef Core* core = &self.core
        cdef ref_t session
        cdef Name name = checked_name(self, "user", user)
        advance(self, now_ms)
        session = core_find_user(core, name)
        if session == NO_REF:
            return None
        seen = seen_of(self, user)
        url, seen_ms = seen if seen is not None else (b"", core_seen_ms(core, session))
        return url, seen_ms, (*KINDS, "departed")[kind_at(&core.skiplist, session)]

    def forget(self, bytes user not None, *, now_ms):
        cdef Core* core = &self.core
        cdef ref_t session
        cdef Name name = checked_name(self, "user", user)
        advance(self, now_ms)
        session = table_find(&core.users, &core.skiplist, core_hash(core, name), name)
        if session != NO_REF:
            core_forget(core, session)
        return session != NO_REF

    def section(self, bytes prefix not None, *, now_ms):
        cdef Name name = checked_name(self, "prefix", prefix, True)
        cdef int64_t people, n_pages, left = INT64_MAX
        cdef Asked asked
        advance(self, now_ms)
        asked = core_section(&self.core, name, &left, &people, &n_pages)
        if asked == TOO_LONG:
            raise errors.scan_too_long(prefix, self.core.max_scan)
        if asked != ANSWERED:
            raise out_of_memory(self)
        return people, n_pages

    def top(self, limit=10, bytes prefix not None=b"", *, now_ms):
        cdef Core* core = &self.core
        cdef Name name = checked_name(self, "prefix", prefix, True)
        cdef int64_t most = number_from("limit", limit, 0, core.max_limit), left = INT64_MAX
        cdef int64_t n, i
        cdef Ranked* ranked
        cdef bint collects
        advance(self, now_ms)
        if core_top(core, name, most, &left, &ranked, &n) != ANSWERED:
            raise out_of_memory(self)
        collects = PyGC_Disable()  # as in `listed`
        try:
            return [(bytes_from(name_of(&core.skiplist, ranked[i].page)), ranked[i].people) for i in range(n)]
        finally:
            if collects:
                PyGC_Enable()

    def relax(self, bint is_on):
        cdef Core* core = &self.core
        core.max_pages = 2 * self.max_pages if is_on else self.max_pages
        core.max_strangers = core.max_users if is_on else (core.max_users + 1) // 2
        with nogil:
            if is_on and core_oldest(core, True) == NO_REF:
                core.without_names = True
            elif core.without_names and not is_on:
                core_order_names(core)
                core.without_names = False

    def peak(self):
        return self.core.peak, self.core.peak_at_ms

    def restore(self, *, int64_t peak, int64_t peak_at_ms, statistics not None):
        cdef Tally* tally = &self.core.tally
        self.core.peak, self.core.peak_at_ms = peak, peak_at_ms
        core_begin_minute(&self.core)
        tally.accepted, tally.late, tally.stale = statistics.accepted, statistics.late, statistics.stale
        tally.skewed, tally.refused = statistics.skewed, statistics.refused
        tally.full[0], tally.full[1] = statistics.max_users_reached, statistics.max_pages_reached
        tally.full[2] = statistics.max_memory_reached

    @property
    def overdue(self):
        return self.core.overdue

    def statistics(self):
        cdef Core* core = &self.core
        cdef Tally* tally = &core.tally
        return IndexStatistics(
            users=table_used(&core.users) - core.overdue, pages=table_used(&core.pages),
            memory_bytes=core_memory_bytes(core),
            accepted=tally.accepted, late=tally.late, stale=tally.stale, skewed=tally.skewed, refused=tally.refused,
            expired=tally.expired,
            max_users_reached=tally.full[0], max_pages_reached=tally.full[1], max_memory_reached=tally.full[2],
            overdue=core.overdue,
        )

    def _check(self):
        check_core(&self.core)


# Self-examination, for tests

cdef list ring(Core* core, Order order, ref_t head):
    """Return the records of an order from its head on, after checking its links at every level."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef list refs = []
    cdef ref_t at = head, following
    cdef int level
    for level in range(<int>MAX_HEIGHT):
        above = [ref for ref in refs if height_at(skiplist, ref) > level] if level else None
        found = []
        at = head
        while True:
            following = link_at(skiplist, order, level, at).next
            assert link_at(skiplist, order, level, following).prev == at, "links of both directions"
            at = following
            if at == head:
                break
            assert height_at(skiplist, at) > level, "a record stands above its height"
            found.append(at)
        if level == 0:
            refs = found
        else:
            assert found == above, f"level {level} holds the records that reach it"
    return refs


cdef list check_run(Core* core, ref_t page):
    """Return the sessions of a page's run, oldest first, after checking its links at every level."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef list refs = []
    cdef ref_t at = next_of(skiplist, BY_PAGE, page), ref
    cdef Link link
    cdef int level
    assert kind_at(skiplist, page) == PAGE, "a run is a page's"
    while at != page:
        assert record_at(skiplist, at).page == page, "a session stands in its page's run"
        refs.append(at)
        at = next_of(skiplist, BY_PAGE, at)
    assert newest_of(skiplist, page) == (refs[-1] if refs else page), "newest of the run"
    for level in range(<int>MAX_HEIGHT):
        chain = [page, *(ref for ref in refs if height_at(skiplist, ref) > level), page]
        for before, ref, behind in zip(chain, chain[1:], chain[2:], strict=False):
            link = link_at(skiplist, BY_PAGE, level, ref)[0]
            assert link.prev == before, "each level of a run is linked back"
            assert link.next == behind, "each level of a run is linked on"
    return refs


cdef check_table(Core* core, Table* table, set refs):
    """Check that a table holds exactly these records, each where a search finds it."""
    cdef ref_t ref
    assert table_used(table) == len(refs), "a table holds what stands in the orders"
    for ref in refs:
        name = bytes_from(name_of(&core.skiplist, ref))
        if kind_at(&core.skiplist, ref) == PAGE:
            assert page_at(&core.skiplist, ref).hash == core_hash(core, name_from(name)), "the hash is the name's"
        assert table_find(table, &core.skiplist, core_hash(core, name_from(name)), name_from(name)) == ref, name
    if table.old.at != NULL:
        for i in range(table.moved):
            assert table.old.at[i].ref == NO_REF, "slots moved are empty"


cdef check_rising(Core* core, refs, bint by_name):
    for one, other in zip(refs, refs[1:], strict=False):
        if by_name:
            assert bytes_from(name_of(&core.skiplist, one)) < bytes_from(name_of(&core.skiplist, other)), "by name"
        else:
            assert later_by(record_at(&core.skiplist, other).key, record_at(&core.skiplist, one).key) > 0, "by time"


cdef check_pages(Core* core, list pages, set named, list unnamed):
    """Check every page's run and counts against the sessions; `pages` come in order of url."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef ref_t ref
    counts = {page: [0, 0, 0, 0] for page in pages}
    for ref in [*named, *unnamed]:
        if kind_at(skiplist, ref) != DEPARTED:
            counts[record_at(skiplist, ref).page][kind_at(skiplist, ref)] += 1
        else:
            assert record_at(skiplist, ref).page == NO_REF, "a departed session has no page"
    runs = {page: check_run(core, page) for page in pages}
    assert {ref for run in runs.values() for ref in run} == named, "runs hold the named sessions"
    for ref, run in runs.items():
        check_rising(core, run, False)
        assert [page_at(skiplist, ref).counts[kind] for kind in range(4)] == counts[ref], "counts of the page"
        assert any(counts[ref]), "a page has a session"


cdef check_core(Core* core):
    """Raise AssertionError naming the first broken invariant."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef ref_t ref
    cdef uint32_t i
    cdef int kind
    cdef int64_t live = 0, second
    by_time = ring(core, BY_TIME, core.named)
    unnamed = ring(core, BY_TIME, core.unnamed)
    by_name = ring(core, BY_NAME, core.named)
    pages = ring(core, BY_NAME, core.urls)
    named = set(by_time)
    check_rising(core, by_time, False)
    check_rising(core, unnamed, False)
    check_rising(core, by_name, True)
    check_rising(core, pages, True)
    assert set(by_name) == named, "the orders by time and by name hold the same sessions"
    assert all(core_is_named(core, ref) for ref in by_time), "named sessions"
    assert not any(core_is_named(core, ref) for ref in unnamed), "unnamed sessions"
    check_table(core, &core.users, {*named, *unnamed})
    check_table(core, &core.pages, set(pages))
    check_pages(core, pages, named, unnamed)
    seconds, overdue = {}, [0, 0]
    for ref in [*by_time, *unnamed]:
        if core_is_online(core, core_seen_ms(core, ref)):
            second, kind = core_seen_ms(core, ref) // 1000 % core.window_s, kind_at(skiplist, ref)
            seconds[second, kind] = seconds.get((second, kind), 0) + 1
        else:
            overdue[core_is_named(core, ref)] += 1
    kinds = [sum(n for (_, of), n in seconds.items() if of == kind) for kind in range(5)]
    assert core.first_ms // 1000 == core.now_ms // 1000 - core.window_s + 1, "the window begins with a second"
    assert kinds == [core.kinds[kind] for kind in range(5)], "counts by kind"
    assert core.people == sum(kinds[:3]), "people"
    for second in range(core.window_s):
        for kind in range(5):
            if core.seconds[second].kinds[kind]:
                assert seconds.pop((second, kind), 0) == core.seconds[second].kinds[kind], "counts by second"
    assert not seconds, "counts by second"
    assert overdue == [core.overdue_unnamed, core.overdue - core.overdue_unnamed], "what is overdue"
    for i in range(1, skiplist.arena.n_chunks):
        live += skiplist.arena.chunks[i].live
    assert live == len(named) + len(unnamed) + len(pages) + 3, "every block belongs to a record"
