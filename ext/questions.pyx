"""The questions that web pages ask, in C: counts, pages, lists, and who was seen where.

Its job: one function a verb, and its row. Not its job: what is online (core), how a value is written (resp_values,
msgpack_values), and the questions that are asked seldom (serve/verbs.py). A site without an index yet is answered like
an empty one.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from online import errors

from online.core.arena cimport NO_REF, ref_t
from online.core.arguments cimport arg_name, arg_text, arg_within, is_given, kind_name
from online.core.codec cimport Arg
from online.core.msgpack_values cimport pack_array, pack_int, pack_text
from online.core.resp_values cimport resp_line, resp_text
from online.core.connection cimport (
    MOST_LINE_BYTES, MSGPACK, Connection, core_of, is_listening, wall_of,
    put_array, put_int, put_line, put_nil, put_text, room, wrote,
)
from online.core.core cimport (
    Core, core_find_user, core_is_named, core_page_people, core_people_within, core_seen_ms, core_settle_page,
)
from online.core.index cimport bytes_from, name_from
from online.core.lists cimport (
    CURSOR_TAG_BYTES, OF_PAGE, OF_RECENT, OF_USERS, Listing, Scope,
    core_continue, core_cursor, core_has_more, core_list, core_list_page, core_list_recent, core_list_users,
    first_from,
)
from online.core.sections cimport ANSWERED, NO_MEMORY, TOO_LONG, Asked, Ranked, core_section, core_top
from online.core.skiplist cimport (
    BY_NAME, DEPARTED, MAX_NAME_BYTES, Name,
    begins_with, compare_names, kind_at, name_of, next_of, page_at, record_at, same_name,
)
from online.core.verbs cimport ANY, ASKS, LATER, WHILE_LOADING, WHILE_SUBSCRIBED, verb

cdef enum:
    PAGES_A_UNIT = 16                                    # pages that SECTION adds up in a unit of work
    SECONDS_A_UNIT = 512                                 # counters that COUNT within a time adds up
    USERS_A_UNIT = 8                                     # users that a list takes in a unit of work
    LONGEST_CURSOR = CURSOR_TAG_BYTES + 2 * MAX_NAME_BYTES
    KIND_BYTES = 16                                      # room for a kind in either dialect
    ITEM_BYTES = 4 * MOST_LINE_BYTES + KIND_BYTES        # room for an item of a list without its names
    DEFAULT_LIMIT = 30                                   # users in a list, where none is given
    DEFAULT_TOP = 10                                     # pages in TOP, where none is given
    WORK_TOP = 128                                       # to put thousands of pages in order
    PAGES_A_QUESTION = 1_024                             # pages that SECTION and TOP look at in a turn
    EXPIRED_A_QUESTION = 256                             # sessions that a question drops in a turn

#: Kinds as they stand in lists, in either dialect: written once, and copied ever after.
cdef struct KindTexts:
    char[KIND_BYTES] packed
    char[KIND_BYTES] resp
    size_t n_packed
    size_t n_resp


cdef KindTexts[<int>DEPARTED] KIND_TEXTS


for _kind in range(<int>DEPARTED):
    KIND_TEXTS[_kind].n_packed = pack_text(KIND_TEXTS[_kind].packed, name_from(kind_name(_kind)))
    KIND_TEXTS[_kind].n_resp = resp_text(KIND_TEXTS[_kind].resp, name_from(kind_name(_kind)))


cdef int verb_count(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name url
    cdef ref_t page
    cdef int64_t within_s, left = EXPIRED_A_QUESTION
    if is_given(args, n_args, 0):
        if is_given(args, n_args, 1):
            raise errors.within_one_page()
        arg_name(&args[0], "url", core.max_url, False, &url)
        if not core_settle_page(core, url, False, &left, &page):
            return LATER
        return put_int(c, core_page_people(core, page))
    if is_given(args, n_args, 1):
        arg_within(&args[1], "within_s", 1, core.window_s, &within_s)
        c.work += within_s // SECONDS_A_UNIT
        return put_int(c, core_people_within(core, within_s))
    return put_int(c, core.people)


cdef int check_number_of(Connection c, str what, int64_t n) except -1:
    if n > c.service.max_limit:
        raise errors.too_many(what, n, c.service.max_limit)
    c.work += n // USERS_A_UNIT
    return 0


cdef int verb_counts(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name url
    cdef ref_t page
    cdef int64_t i, left = EXPIRED_A_QUESTION
    check_number_of(c, "urls", n_args)
    put_array(c, n_args)
    for i in range(n_args):
        arg_name(&args[i], "url", core.max_url, False, &url)
        if not core_settle_page(core, url, False, &left, &page):
            return LATER
        put_int(c, core_page_people(core, page))
    return 0


cdef int verb_kinds(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef ref_t page = NO_REF
    cdef Name url
    cdef int kind
    cdef int64_t left = EXPIRED_A_QUESTION
    cdef bint of_page = is_given(args, n_args, 0)
    if of_page:
        arg_name(&args[0], "url", core.max_url, False, &url)
        if not core_settle_page(core, url, True, &left, &page):
            return LATER
    put_array(c, <int>DEPARTED)
    for kind in range(<int>DEPARTED):
        if of_page:
            put_int(c, 0 if page == NO_REF else page_at(&core.skiplist, page).counts[kind])
        else:
            put_int(c, core.kinds[kind])
    return 0


cdef int put_session(Connection c, Core* core, ref_t session, bint with_url) except -1:
    """Write an item of a list: room is made once for all of it, which takes a third of the time."""
    cdef Name user = name_of(&core.skiplist, session), url
    cdef int64_t seen_ms = wall_of(c.service, core_seen_ms(core, session))
    cdef const KindTexts* texts = &KIND_TEXTS[kind_at(&core.skiplist, session)]
    cdef bint is_packed = c.dialect == MSGPACK
    cdef char* begin
    cdef char* out
    url.n_bytes = 0
    if with_url:
        url = name_of(&core.skiplist, record_at(&core.skiplist, session).page)
    begin = out = room(c, ITEM_BYTES + user.n_bytes + url.n_bytes)
    if is_packed:
        out += pack_array(out, 4 if with_url else 3)
        out += pack_text(out, user)
        if with_url:
            out += pack_text(out, url)
        out += pack_int(out, seen_ms)
        memcpy(out, &texts.packed, KIND_BYTES)
        out += texts.n_packed
    else:
        memcpy(out, b"*4\r\n" if with_url else b"*3\r\n", 4)
        out += 4
        out += resp_text(out, user)
        if with_url:
            out += resp_text(out, url)
        out += resp_line(out, c':', seen_ms)
        memcpy(out, &texts.resp, KIND_BYTES)
        out += texts.n_resp
    wrote(c, out - begin)
    return 0


cdef int put_list(Connection c, Listing* listing, Scope scope, Name of, Arg* args, int64_t n_args) except -1:
    """Write a list and the cursor behind it; `args` are `[limit [cursor]]`."""
    cdef Core* core = core_of(c)
    cdef int64_t most = c.service.max_limit, limit = min(<int64_t>DEFAULT_LIMIT, most), n, i
    cdef int64_t left = EXPIRED_A_QUESTION
    cdef Name cursor
    cdef char room_for_cursor[LONGEST_CURSOR]
    if is_given(args, n_args, 0):
        arg_within(&args[0], "limit", 0, most, &limit)
    if is_given(args, n_args, 1):
        arg_text(&args[1], "cursor", &cursor)
        if not c.service._handing and not core_continue(core, listing, scope, of, cursor):
            raise errors.bad_cursor(bytes_from(cursor))
    n = core_list(core, listing, c.service.listed, limit, &left)
    if n < 0:
        return LATER
    c.work += n // USERS_A_UNIT
    put_array(c, n)
    for i in range(n):
        put_session(c, core, c.service.listed[i], scope != OF_PAGE)
    if n == 0 or not core_has_more(core, listing):
        return put_nil(c)
    cursor.at = room_for_cursor
    cursor.n_bytes = <uint32_t>core_cursor(core, scope, of, c.service.listed[n - 1], room_for_cursor)
    return put_text(c, cursor)


cdef int verb_page(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name url
    cdef ref_t page
    cdef Listing listing
    cdef int64_t left = EXPIRED_A_QUESTION
    arg_name(&args[0], "url", core.max_url, False, &url)
    if not core_settle_page(core, url, False, &left, &page):
        return LATER
    listing = core_list_page(core, page)
    put_array(c, 4)
    put_int(c, core.people)
    put_int(c, core_page_people(core, page))
    return put_list(c, &listing, OF_PAGE, url, args + 1, n_args - 1)


cdef int verb_recent(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Listing listing = core_list_recent(core_of(c))
    put_array(c, 2)
    return put_list(c, &listing, OF_RECENT, name_from(b""), args, n_args)


cdef int verb_users(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name prefix = name_from(b"")
    cdef Listing listing
    if n_args:
        arg_name(&args[0], "prefix", core.max_user, True, &prefix)
    listing = core_list_users(core, prefix)
    put_array(c, 2)
    return put_list(c, &listing, OF_USERS, prefix, args + 1, n_args - 1)


cdef int verb_seen(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef ref_t session
    cdef Name user
    cdef int64_t i
    check_number_of(c, "users", n_args)
    put_array(c, n_args)
    for i in range(n_args):
        arg_name(&args[i], "user", core.max_user, False, &user)
        session = core_find_user(core, user)
        if session == NO_REF or not core_is_named(core, session):
            put_nil(c)
            continue
        put_array(c, 2)
        put_text(c, name_of(&core.skiplist, record_at(&core.skiplist, session).page))
        put_int(c, wall_of(c.service, core_seen_ms(core, session)))
    return 0


cdef int verb_section(Connection c, Arg* args, int64_t n_args) except -1:
    return put_section(c, args, 2)


cdef int verb_pages(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Name prefix
    if put_section(c, args, 4) == LATER:
        return LATER
    arg_name(&args[0], "prefix", core_of(c).max_url, True, &prefix)
    return put_urls(c, core_of(c), prefix, args + 1, n_args - 1)


cdef int put_section(Connection c, Arg* args, int64_t n_items) except -1:
    """Write the people and pages of a section, as the first of some items."""
    cdef Core* core = core_of(c)
    cdef Name prefix
    cdef int64_t people, n_pages, left = PAGES_A_QUESTION
    cdef Asked asked
    arg_name(&args[0], "prefix", core.max_url, True, &prefix)
    asked = core_section(core, prefix, &left, &people, &n_pages)
    if asked != ANSWERED:
        return put_off(c, core, asked, prefix)
    c.work += (PAGES_A_QUESTION - left) // PAGES_A_UNIT
    put_array(c, n_items)
    put_int(c, people)
    return put_int(c, n_pages)


cdef int put_urls(Connection c, Core* core, Name prefix, Arg* args, int64_t n_args) except -1:
    """Write urls of a section, in order, and the last one if there are more; `args` are `[limit [after]]`."""
    cdef ref_t* listed = c.service.listed
    cdef int64_t limit = min(<int64_t>DEFAULT_LIMIT, c.service.max_limit), n = 0, i
    cdef Name after = prefix
    cdef ref_t page
    if is_given(args, n_args, 0):
        arg_within(&args[0], "limit", 1, c.service.max_limit, &limit)
    if is_given(args, n_args, 1):
        arg_name(&args[1], "after", core.max_url, False, &after)
    page = first_from(core, core.urls, after if compare_names(after, prefix) > 0 else prefix)
    if page != core.urls and is_given(args, n_args, 1) and same_name(name_of(&core.skiplist, page), after):
        page = next_of(&core.skiplist, BY_NAME, page)
    while n < limit and page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
        listed[n] = page
        n += 1
        page = next_of(&core.skiplist, BY_NAME, page)
    c.work += n // USERS_A_UNIT
    put_array(c, n)
    for i in range(n):
        put_text(c, name_of(&core.skiplist, listed[i]))
    if n and page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
        return put_text(c, name_of(&core.skiplist, listed[n - 1]))
    return put_nil(c)


cdef int verb_top(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name prefix = name_from(b"")
    cdef int64_t limit = min(<int64_t>DEFAULT_TOP, c.service.max_limit), left = PAGES_A_QUESTION, n, i
    cdef Ranked* ranked
    cdef Asked asked
    if is_given(args, n_args, 0):
        arg_within(&args[0], "limit", 0, c.service.max_limit, &limit)
    if is_given(args, n_args, 1):
        arg_name(&args[1], "prefix", core.max_url, True, &prefix)
    asked = core_top(core, prefix, limit, &left, &ranked, &n)
    if asked != ANSWERED:
        return put_off(c, core, asked, prefix)
    c.work += WORK_TOP + (PAGES_A_QUESTION - left) // PAGES_A_UNIT + n // USERS_A_UNIT
    put_array(c, n)
    for i in range(n):
        put_array(c, 2)
        put_text(c, name_of(&core.skiplist, ranked[i].page))
        put_int(c, ranked[i].people)
    return 0


cdef int put_off(Connection c, Core* core, Asked asked, Name prefix) except -1:
    """Say why a question about a section has no answer, unless it is to be asked again."""
    if asked == TOO_LONG:
        raise errors.scan_too_long(bytes_from(prefix), core.max_scan)
    if asked == NO_MEMORY:
        raise errors.full("max_memory", core.skiplist.arena.purse.limit_bytes)
    return LATER


cdef int verb_ping(Connection c, Arg* args, int64_t n_args) except -1:
    if is_listening(c):                                  # as in Redis
        put_array(c, 2)
        put_text(c, name_from(b"pong"))
        return verb_echo(c, args, n_args) if n_args else put_text(c, name_from(b""))
    if n_args:
        return verb_echo(c, args, n_args)
    return put_text(c, name_from(b"PONG")) if c.dialect == MSGPACK else put_line(c, c'+', b"PONG")


cdef int verb_echo(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Name text
    arg_text(&args[0], "text", &text)
    return put_text(c, text)


# The first rows of the table are found first.
verb("PAGE url [limit [cursor]]", verb_page, 1, 3, ASKS)
verb("COUNT [url [within_s]]", verb_count, 0, 2, ASKS)
verb("COUNTS url [url ...]", verb_counts, 1, ANY, ASKS)
verb("KINDS [url]", verb_kinds, 0, 1, ASKS)
verb("RECENT [limit [cursor]]", verb_recent, 0, 2, ASKS)
verb("USERS [prefix [limit [cursor]]]", verb_users, 0, 3, ASKS)
verb("SEEN user [user ...]", verb_seen, 1, ANY, ASKS)
verb("SECTION prefix", verb_section, 1, 1, ASKS)
verb("PAGES prefix [limit [after]]", verb_pages, 1, 3, ASKS)
verb("TOP [limit [prefix]]", verb_top, 0, 2, ASKS)
verb("PING [text]", verb_ping, 0, 1, WHILE_LOADING | WHILE_SUBSCRIBED)
verb("ECHO text", verb_echo, 1, 1)
