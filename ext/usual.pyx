"""Usual lines of access logs -> page views, by what is known of their parts.

Its job: to remember what the careful way (online.logs.pages) has said of a part of a line, and to say it again. Not its
job: what a page view is and whose, which is never decided here; how a line is taken apart (logfields, jsonfields); and
what the names of guests are made of (guests).

A line has three parts with a verdict each: its way (method and status), its url, and who it is (user, or address, agent
and whatever else tells). If all three are known, a line becomes a page view without another object.

Invariants:
1. A verdict is what the careful way said of a line with the same part, to the byte. Keys are compared whole.
2. Memory is bounded: what is known is, see known.pxd.
3. `last` stands in `owner`, or is empty. Datagrams that are an owner are not received anew while a line is read.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memset

from online.terms import KINDS as _KINDS, SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS

from online.core.datagrams cimport Datagrams
from online.core.guests cimport MOST_ADDRESS_BYTES, MOST_GUEST_BYTES, GuestKey, guest_key_begin, guest_name, one_form
from online.core.index cimport name_from
from online.core.jsonfields cimport JsonShapes
from online.core.known cimport (
    MOST_KEY_BYTES, Known, Slot, Text, add, known_begin, known_end, put, slot_of, slot_of_text, text_of,
)
from online.core.logfields cimport NO_HOST, PERHAPS_HOST, WITH_HOST, Fields, HostShape, read_usual, usual_header
from online.core.skiplist cimport Name
from online.core.tally cimport LineTally

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_new)(type, tuple, PyObject*)
    PyTypeObject PyTuple_Type
    const Py_ssize_t PY_SSIZE_T_MAX
    PyObject* PyList_GET_ITEM(list items, Py_ssize_t place)
    PyObject* PyTuple_GET_ITEM(tuple items, Py_ssize_t place)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* n_bytes) except NULL

cdef enum:
    WAY_SETS = 64
    URL_SETS = 16 * 1024                                 # 65,536 urls
    PEOPLE_SETS = 64 * 1024                              # 262,144 visitors, in 80 MB
    AGENT_SETS = 4 * 1024                                # 16,384 agents
    MOST_NAME_BYTES = 64                                 # of who was just named; what is longer, rules may refuse
    VIEW_BYTES = 32                                      # of a packed page view, beside its names and its kind

cdef int64_t MOST_SMALL = 1 << 32                        # smaller numbers have shorter forms; no time is so small

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS
cdef tuple KINDS = _KINDS                                # `n` in the slot of a visitor is a place in them
cdef dict SHAPES = {"plain": NO_HOST, "host": WITH_HOST, "any": PERHAPS_HOST}


# Page views as MessagePack

cdef struct Packed:
    char* at
    size_t n_bytes
    size_t room
    Py_ssize_t n_views
    int64_t newest_ms                                    # of the last


cdef int make_room(Packed* packed, size_t n_bytes) except -1:
    cdef char* at
    cdef size_t room = packed.room
    while packed.n_bytes + n_bytes > room:
        room = 2 * room or 64 * 1024
    if room > packed.room:
        at = <char*>realloc(packed.at, room)
        if at == NULL:
            raise MemoryError("no memory for packed page views")
        packed.at, packed.room = at, room
    return 0


cdef inline void pack_name(Packed* packed, bytes name) noexcept:
    """Write a name of up to 65,535 bytes. There is room."""
    cdef size_t n_bytes = <size_t>PyBytes_GET_SIZE(name)
    cdef uint8_t* to = <uint8_t*>packed.at + packed.n_bytes
    cdef int n_head = 2
    if n_bytes < 256:
        to[0], to[1] = 0xc4, <uint8_t>n_bytes
    else:
        to[0], to[1], to[2] = 0xc5, <uint8_t>(n_bytes >> 8), <uint8_t>n_bytes
        n_head = 3
    memcpy(to + n_head, PyBytes_AS_STRING(name), n_bytes)
    packed.n_bytes += n_head + n_bytes


cdef int pack_view(Packed* packed, bytes user, bytes url, int64_t seen_ms, str kind) except -1:
    """Write a page view as msgpack does: an array of user, url, time and kind. O(length)."""
    cdef Py_ssize_t n_kind
    cdef const char* text = PyUnicode_AsUTF8AndSize(kind, &n_kind)
    cdef uint8_t* to
    cdef int i
    if PyBytes_GET_SIZE(user) >= 65_536 or PyBytes_GET_SIZE(url) >= 65_536 or n_kind >= 32 or seen_ms < MOST_SMALL:
        raise ValueError("a page view with a name, kind or time that no index takes")
    make_room(packed, PyBytes_GET_SIZE(user) + PyBytes_GET_SIZE(url) + n_kind + VIEW_BYTES)
    packed.at[packed.n_bytes] = <char>0x94
    packed.n_bytes += 1
    pack_name(packed, user)
    pack_name(packed, url)
    to = <uint8_t*>packed.at + packed.n_bytes
    to[0] = 0xcf
    for i in range(8):
        to[1 + i] = <uint8_t>(seen_ms >> (56 - 8 * i))
    to[9] = <uint8_t>(0xa0 | n_kind)
    memcpy(to + 10, text, n_kind)
    packed.n_bytes += 10 + n_kind
    packed.n_views += 1
    packed.newest_ms = seen_ms
    return 0


cdef int put_new(Known* known, const char* key, size_t n, verdict) except -1:
    """Remember what was said of a key, unless it is too long or known."""
    if n < MOST_KEY_BYTES and slot_of(known, key, n) == NULL:
        put(known, key, n, verdict)
    return 0


cdef inline bint is_guest(Name user) noexcept:
    return user.n_bytes == 0 or (user.n_bytes == 1 and user.at[0] == c'-')


cdef inline const uint8_t* inside(const uint8_t* at, const uint8_t** end) noexcept:
    """Return where the line in a syslog message begins, and set where it ends; NULL if its header is not usual."""
    while end[0] > at and (end[0][-1] == c'\n' or end[0][-1] == c'\r' or end[0][-1] == 0):
        end[0] -= 1
    return usual_header(at, end[0])


cdef inline object made(type what, tuple values):
    """Make a tuple of a class, as `tuple.__new__`: without the frame of a `NamedTuple`."""
    return PyTuple_Type.tp_new(what, (values,), NULL)


cdef class UsualRecords:
    cdef type make
    cdef bint has_lines
    cdef HostShape shape
    cdef JsonShapes objects

    def __cinit__(self, type make not None, *, lines=None, JsonShapes objects=None):
        if not issubclass(make, tuple):
            raise TypeError("a record is a tuple")
        self.make, self.objects = make, objects
        self.has_lines = lines is not None
        self.shape = SHAPES[lines or "plain"]

    def read(self, bytes line not None):
        cdef Fields fields
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(line)
        return self.record(&fields) if self.scan(at, at + PyBytes_GET_SIZE(line), &fields) else None

    cdef object record(self, const Fields* fields):
        return made(self.make, (
            fields.seen_ms, text_of(fields.address), text_of(fields.user), text_of(fields.method), text_of(fields.url),
            text_of(fields.status), text_of(fields.agent), text_of(fields.host), text_of(fields.visitor),
            text_of(fields.forwarded), b"", text_of(fields.referrer), text_of(fields.kind),
        ))

    cdef bint scan(self, const uint8_t* at, const uint8_t* end, Fields* fields) noexcept:
        """Read the fields of a line; False if it is not usual. O(length)."""
        if at < end and at[0] == c'{':
            return self.objects is not None and self.objects.read(at, end, fields)
        return self.has_lines and read_usual(at, end, self.shape, fields)


cdef class UsualLines:
    cdef object careful, judge, nameless, is_bot, make, message_of
    cdef frozenset bad_ways, bad_urls, nobody
    cdef UsualRecords records
    cdef bint trusts_proxies, with_host, ignores_queries, guests_only
    cdef bint has_key
    cdef GuestKey key
    cdef Known ways, urls, people, agents
    cdef Fields last
    cdef object owner

    def __cinit__(
        self, careful, judge, nameless, is_bot, type make not None, *, UsualRecords records, message_of, bad_ways,
        bad_urls, nobody, bytes key, bint trusts_proxies, bint with_host, bint ignores_queries, bint guests_only,
    ):
        if not issubclass(make, tuple):
            raise TypeError("a page view is a tuple")
        self.careful, self.judge, self.nameless, self.is_bot = careful, judge, nameless, is_bot
        self.make, self.message_of = make, message_of
        self.records = records
        self.bad_ways, self.bad_urls, self.nobody = frozenset(bad_ways), frozenset(bad_urls), frozenset(nobody)
        self.trusts_proxies, self.with_host, self.guests_only = trusts_proxies, with_host, guests_only
        self.ignores_queries = ignores_queries
        known_begin(&self.ways, WAY_SETS)
        known_begin(&self.urls, URL_SETS)
        known_begin(&self.people, PEOPLE_SETS)
        known_begin(&self.agents, AGENT_SETS)
        self.has_key = key is not None
        if self.has_key:
            guest_key_begin(&self.key, key)

    def __dealloc__(self):
        known_end(&self.ways)
        known_end(&self.urls)
        known_end(&self.people)
        known_end(&self.agents)

    def parse(self, bytes line not None):
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(line)
        if self.scan(line, at, at + PyBytes_GET_SIZE(line)):
            return self.view() or self.learn()
        return self.careful(line)

    def parse_message(self, bytes datagram not None):
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(datagram)
        cdef const uint8_t* end = at + PyBytes_GET_SIZE(datagram)
        at = inside(at, &end)
        if at == NULL:
            return self.parse(self.message_of(datagram))
        if self.scan(datagram, at, end):
            return self.view() or self.learn()
        return self.careful(self.message_of(datagram))

    def pack(self, list lines not None, Py_ssize_t most_bytes, str too_long not None, LineTally tally=None):
        return self.pack_all(lines, None, 0, len(lines), most_bytes, too_long, tally)

    def pack_messages(self, list datagrams not None):
        return self.pack_all(datagrams, None, 0, len(datagrams), PY_SSIZE_T_MAX, None, None)

    def pack_received(self, Datagrams datagrams not None, Py_ssize_t begin, Py_ssize_t end):
        if not 0 <= begin <= end <= datagrams.n_taken:
            raise IndexError("no such datagrams")
        return self.pack_all(None, datagrams, begin, end, PY_SSIZE_T_MAX, None, None)

    cdef tuple pack_all(
        self, list lines, Datagrams datagrams, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t most_bytes, str too_long,
        LineTally tally,
    ):
        """Pack the page views of some `lines` or, without these, of some `datagrams`. Lines that cannot be `too_long`
        are messages of syslog.
        """
        cdef Packed packed
        cdef list reasons = [], places = []
        cdef object owner = datagrams
        cdef const char* at
        cdef Py_ssize_t place, n_bytes
        memset(&packed, 0, sizeof(Packed))
        try:
            for place in range(begin, end):
                if lines is not None:
                    owner = <object>PyList_GET_ITEM(lines, place)
                    at, n_bytes = PyBytes_AS_STRING(<bytes?>owner), PyBytes_GET_SIZE(<bytes>owner)
                else:
                    at, n_bytes = datagrams.taken[place].at, datagrams.taken[place].n_bytes
                found = too_long
                if n_bytes <= most_bytes:
                    found = self.pack_one(owner, at, n_bytes, too_long is None, &packed, tally)
                if found is not None:
                    reasons.append(found)
                    places.append(place - begin)
            return (
                PyBytes_FromStringAndSize(packed.at, packed.n_bytes), packed.n_views, packed.newest_ms, reasons, places)
        finally:
            free(packed.at)

    cdef object pack_one(
        self, owner, const char* text, Py_ssize_t n_bytes, bint is_message, Packed* packed, LineTally tally
    ):
        """Write the page view of a line, or of a syslog message, or return why there is none. What it says is counted
        in `tally`. The text stands in `owner`.
        """
        cdef const uint8_t* at = <const uint8_t*>text
        cdef const uint8_t* end = at + n_bytes
        cdef PyObject* known_url
        cdef Slot* person
        cdef int64_t seen_ms
        if is_message:
            at = inside(at, &end)
        if at != NULL and self.scan(owner, at, end):
            found = self.known(&known_url, &person)
            if found is True:
                user, kind = <object>person.verdict, <object>PyTuple_GET_ITEM(KINDS, person.n)
                url, seen_ms = <object>known_url, self.last.seen_ms
            elif found is None:
                found = self.learn()
        elif is_message:
            found = self.parse(self.message_of(PyBytes_FromStringAndSize(text, n_bytes)))
        else:
            found = self.careful(PyBytes_FromStringAndSize(text, n_bytes))
        if tally is not None:
            tally.take_status(&self.last)
        if found is not True:
            if isinstance(found, str):
                return found
            user, url, seen_ms, kind = <tuple>found
        if tally is None or tally.take_view(&self.last, user, kind):
            pack_view(packed, <bytes?>user, <bytes?>url, seen_ms, <str?>kind)
        return None

    def note(self, record):
        self.owner = record
        self.last.url, self.last.status = name_from(record[4]), name_from(record[5])
        self.last.agent, self.last.host = name_from(record[6]), name_from(record[7])
        self.last.referrer = name_from(record[11])

    @property
    def url(self):
        return text_of(self.last.url)

    @property
    def host(self):
        return text_of(self.last.host)

    cdef bint scan(self, object owner, const uint8_t* at, const uint8_t* end) noexcept:
        """Read the fields of a line; False, and none, if it is not usual."""
        cdef bint is_usual = self.records is not None and self.records.scan(at, end, &self.last)
        self.owner = owner
        if not is_usual or not SEEN_MIN_MS <= self.last.seen_ms <= SEEN_MAX_MS:
            memset(&self.last, 0, sizeof(Fields))
            return False
        return True

    cdef object view(self):
        """Return what is known of the line that was read last: a page view, or why it is none; None if not all is."""
        cdef PyObject* url
        cdef Slot* person
        found = self.known(&url, &person)
        if found is not True:
            return found
        kind = <object>PyTuple_GET_ITEM(KINDS, person.n)
        return made(self.make, (<object>person.verdict, <object>url, self.last.seen_ms, kind))

    cdef object known(self, PyObject** its_url, Slot** its_person):
        """Find what is known of the line that was read last: True if all is, until more is learned; why it is no page
        view; None if not all is known.
        """
        cdef Text text
        cdef Slot* slot
        cdef Name page
        self.write_way(&text, &self.last)
        slot = slot_of_text(&self.ways, &text)
        if slot == NULL:
            return None
        if <object>slot.verdict is not True:
            return <object>slot.verdict
        page = self.page_key(&text, &self.last)
        slot = slot_of(&self.urls, page.at, page.n_bytes)
        if slot == NULL:
            return None
        if isinstance(<object>slot.verdict, str):
            return <object>slot.verdict
        its_url[0] = slot.verdict
        self.write_person(&text, &self.last)
        if text.n_bytes == MOST_KEY_BYTES:
            return None                                  # nobody can be remembered by that
        its_person[0] = slot_of_text(&self.people, &text)
        return True if its_person[0] != NULL else self.meet(&text, its_person)

    cdef object meet(self, const Text* key, Slot** its_person):
        """Have the visitor of the line that was read last named, and remember it by its key: True, or why there is no
        name. None if that takes the careful way, as for who has a name or a kind.
        """
        cdef Fields fields = self.last
        cdef object _owner = self.owner                  # holds the fields, whatever is read meanwhile
        if self.is_named(&fields) or fields.kind.n_bytes:
            return None
        found = self.name_at_once(&fields)
        if found is None:
            found = self.nameless(
                text_of(fields.address), text_of(fields.agent), text_of(fields.visitor), text_of(fields.forwarded))
            if isinstance(found, str):
                return found
        if PyBytes_GET_SIZE(<bytes?>(<tuple?>found)[0]) > MOST_NAME_BYTES:
            return None
        its_person[0] = self.put_person(key, found[0], found[1])
        return True

    cdef tuple name_at_once(self, const Fields* fields):
        """Name who is known by a usual address and an agent, as `nameless` does: user and kind; None if another way."""
        cdef char address[MOST_ADDRESS_BYTES]
        cdef char name[MOST_GUEST_BYTES]
        cdef Name agent = fields.agent, form
        cdef Slot* slot
        if not self.has_key or agent.n_bytes >= MOST_KEY_BYTES or not is_guest(fields.visitor):
            return None
        if (fields.forwarded.n_bytes and self.trusts_proxies) or (
                agent.n_bytes and memchr(agent.at, c'\\', agent.n_bytes) != NULL):
            return None
        form.at, form.n_bytes = address, one_form(fields.address, address)
        if not form.n_bytes:
            return None
        slot = slot_of(&self.agents, agent.at, agent.n_bytes)
        if slot == NULL:
            slot = put(&self.agents, agent.at, agent.n_bytes, <bint>self.is_bot(text_of(agent)))
        is_bot = <object>slot.verdict
        user = PyBytes_FromStringAndSize(name, guest_name(&self.key, is_bot, form, agent, name))
        return user, "bot" if is_bot else "guest"

    cdef object learn(self):
        """Have the line that was read last judged with care, and remember what that says of its parts."""
        cdef Fields fields = self.last
        cdef object _owner = self.owner                  # holds the fields, whatever is read meanwhile
        cdef Text text
        found = self.judge(self.records.record(&fields))
        if isinstance(found, str):
            if found in self.bad_ways:
                self.put_way(&fields, found)
            elif found in self.bad_urls:
                self.put_way(&fields, True)
                self.put_url(&fields, found)
        else:
            self.put_way(&fields, True)
            self.put_url(&fields, found[1])
            if not (self.is_named(&fields) and text_of(fields.user) in self.nobody):    # `None`: careful each time
                self.write_person(&text, &fields)
                if text.n_bytes < MOST_KEY_BYTES:
                    self.put_person(&text, found[0], found[3])
        return found

    cdef void write_way(self, Text* text, const Fields* fields) noexcept:
        text.n_bytes = 0
        add(text, fields.method)
        add(text, fields.status)

    cdef inline Name page_key(self, Text* text, const Fields* fields) noexcept:
        """Return what decides on which page a visitor is: in the line or, with a host, written to `text`."""
        cdef Name page = fields.url
        cdef const char* query
        if self.ignores_queries and page.n_bytes:
            query = <const char*>memchr(page.at, c'?', page.n_bytes)
            if query != NULL:
                page.n_bytes = <uint32_t>(query - page.at)
        if self.with_host:
            text.n_bytes = 0
            add(text, page)
            add(text, fields.host)
            page.at, page.n_bytes = text.at, <uint32_t>text.n_bytes
        return page

    cdef bint is_named(self, const Fields* fields) noexcept:
        return not self.guests_only and not is_guest(fields.user)

    cdef void write_person(self, Text* text, const Fields* fields) noexcept:
        text.n_bytes = 0
        if self.is_named(fields):
            add(text, fields.user)
        else:
            add(text, fields.address)
            add(text, fields.agent)
            add(text, fields.visitor)
            if self.trusts_proxies:
                add(text, fields.forwarded)
        if fields.kind.n_bytes:                          # one part more than any key without it
            add(text, fields.kind)

    cdef int put_way(self, const Fields* fields, verdict) except -1:
        cdef Text text
        self.write_way(&text, fields)
        return put_new(&self.ways, text.at, text.n_bytes, verdict)

    cdef int put_url(self, const Fields* fields, verdict) except -1:
        cdef Text text
        cdef Name page = self.page_key(&text, fields)
        return put_new(&self.urls, page.at, page.n_bytes, verdict)

    cdef Slot* put_person(self, const Text* key, user, kind) except NULL:
        """Remember who has a key, unless it is known. It is not too long."""
        cdef Slot* slot = slot_of(&self.people, key.at, key.n_bytes)
        if slot == NULL:
            slot = put(&self.people, key.at, key.n_bytes, user)
            slot.n = <uint32_t>KINDS.index(kind)
        return slot
