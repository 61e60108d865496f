"""A usual JSON object of an access log -> its fields: nginx, Caddy, Traefik, or names of one's own.

Its job: to take apart, in one pass and without an object, what servers write when nothing is odd. Not its job: objects
in which something is (online.logs.jsonlines, the rule for all of them), other lines (logfields), and what a line means
(usual).

The presets come from online.logs.jsonlines. Every key that one of them reads has an id; its value is kept by that until
the whole object was seen, since only then is it known which preset an object has.

Invariants:
1. What is read here, the careful way reads alike. Where there is a doubt, an object is not usual: an escape in a key or
   in a value that is read, a byte beyond ASCII, a known key twice, a dot in a key, a header that may name a purpose.
2. Only valid JSON is usual: what is skipped is checked.
3. Linear in the length; nothing is read from beyond the end; at most MOST_DEPTH objects and lists are nested.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memset

from online.terms import SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS

from online.core.index cimport name_from
from online.core.logfields cimport (
    Fields, between, clf_time, is_digit, plain_end, read_request, seconds_of, two_digits,
)
from online.core.skiplist cimport Name, same_name

cdef enum:
    SPACE = 32
    MOST_DEPTH = 8
    MOST_DIGITS = 18                                     # of a number: all fit an int64

cdef enum:
    TIME, ADDRESS, USER, METHOD, URL, STATUS, AGENT, HOST, VISITOR, FORWARDED, REFERRER, KIND

cdef enum:
    BY_OURS, BY_NGINX, BY_CADDY, BY_TRAEFIK              # the presets, in their order

cdef int64_t MOST_SECONDS = 2**32                        # a float tells a millisecond of these apart
cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS
cdef Name NOTHING = name_from(b"-")                      # for no user or agent


# Values

cdef inline const uint8_t* past_space(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and at[0] == SPACE:
        at += 1
    return at


cdef const uint8_t* escapes_end(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Go to the quote that ends a text with escapes; NULL if it is not usual."""
    while True:
        at = plain_end(at, end, SPACE)
        if at == end or at[0] == c'"':
            return at if at < end else NULL
        if end - at < 2 or at[0] != c'\\' or at[1] not in b'"\\/bfnrt':
            return NULL
        at += 2


cdef const uint8_t* number_end(const uint8_t* at, const uint8_t* end, ValueType* type) noexcept nogil:
    """Go to the end of a number; NULL if it is none, or not usual."""
    cdef const uint8_t* begin
    if at < end and at[0] == c'-':
        type[0] = OTHER_VALUE
        at += 1
    begin = at
    while at < end and is_digit(at[0]):
        at += 1
    if at == begin or at - begin > MOST_DIGITS or (begin[0] == c'0' and at - begin > 1):
        return NULL
    if at < end and at[0] == c'.':
        type[0] = OTHER_VALUE if type[0] == OTHER_VALUE else FRACTION
        begin = at + 1
        at = begin
        while at < end and is_digit(at[0]):
            at += 1
        if at == begin or at - begin > MOST_DIGITS:
            return NULL
    if at < end and at[0] | SPACE == c'e':
        type[0] = OTHER_VALUE
        at += 1
        if at < end and (at[0] == c'-' or at[0] == c'+'):
            at += 1
        begin = at
        while at < end and is_digit(at[0]):
            at += 1
        if not 1 <= at - begin <= 2:
            return NULL
    return at


cdef inline bint begins(const uint8_t* at, const uint8_t* end, const char* word, int n) noexcept nogil:
    cdef int i
    if end - at < n:
        return False
    for i in range(n):
        if at[i] != <uint8_t>word[i]:
            return False
    return True


cdef const uint8_t* list_end(const uint8_t* at, const uint8_t* end, int depth, Value* value) noexcept nogil:
    """Go behind a list that begins before `at`; one text alone is its value."""
    cdef Value item
    value.type = OTHER_VALUE
    at = past_space(at, end)
    if at < end and at[0] == c']':
        return at + 1
    at = value_end(at, end, depth, &item)
    if at == NULL:
        return NULL
    at = past_space(at, end)
    if at < end and at[0] == c']' and item.type == TEXT_VALUE and not is_nothing(item.text):
        value.type = LISTED_TEXT
        value.text = item.text
    while at < end and at[0] == c',':
        at = value_end(past_space(at + 1, end), end, depth, &item)
        if at == NULL:
            return NULL
        at = past_space(at, end)
    return at + 1 if at < end and at[0] == c']' else NULL


cdef const uint8_t* object_end(const uint8_t* at, const uint8_t* end, int depth) noexcept nogil:
    """Go behind an object that begins before `at`, of which nothing is read."""
    cdef Value item
    at = past_space(at, end)
    if at < end and at[0] == c'}':
        return at + 1
    while True:
        if at == end or at[0] != c'"':
            return NULL
        at = escapes_end(at + 1, end)
        if at == NULL or end - at < 2 or at[1] != c':':
            return NULL
        at = value_end(past_space(at + 2, end), end, depth, &item)
        if at == NULL:
            return NULL
        at = past_space(at, end)
        if at == end or at[0] != c',':
            return at + 1 if at < end and at[0] == c'}' else NULL
        at = past_space(at + 1, end)


cdef const uint8_t* value_end(const uint8_t* at, const uint8_t* end, int depth, Value* value) noexcept nogil:
    """Read a value, in `depth` lists and objects; return what follows, or NULL if it is not usual."""
    cdef const uint8_t* stop
    if at == end or depth > MOST_DEPTH:
        return NULL
    if at[0] == c'"':
        at += 1
        stop = plain_end(at, end, SPACE)
        value.type = TEXT_VALUE
        value.text = between(at, stop)
        if stop < end and stop[0] == c'\\':
            value.type = OTHER_VALUE
            stop = escapes_end(stop, end)
        return stop + 1 if stop != NULL and stop < end and stop[0] == c'"' else NULL
    if at[0] == c'[':
        return list_end(at + 1, end, depth + 1, value)
    if at[0] == c'{':
        value.type = OTHER_VALUE
        return object_end(at + 1, end, depth + 1)
    if at[0] == c'n':
        value.type = NULL_VALUE
        return at + 4 if begins(at, end, "null", 4) else NULL
    if at[0] == c't' or at[0] == c'f':
        value.type = OTHER_VALUE
        if begins(at, end, "true", 4):
            return at + 4
        return at + 5 if begins(at, end, "false", 5) else NULL
    value.type = WHOLE_NUMBER
    stop = number_end(at, end, &value.type)
    if stop != NULL:
        value.text = between(at, stop)
    return stop


cdef inline bint is_nothing(Name text) noexcept nogil:
    return text.n_bytes == 0 or (text.n_bytes == 1 and text.at[0] == c'-')


# Times

cdef inline int64_t digits_of(const uint8_t* at, int n) noexcept nogil:
    """Read `n` digits, at most MOST_DIGITS; -1 if one is none."""
    cdef int64_t number = 0
    cdef int i
    for i in range(n):
        if not is_digit(at[i]):
            return -1
        number = 10 * number + at[i] - c'0'
    return number


cdef int64_t whole_time(Name text) noexcept nogil:
    """Read seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size; or -1."""
    cdef int64_t number = -1
    if 0 < text.n_bytes <= MOST_DIGITS:
        number = digits_of(<const uint8_t*>text.at, <int>text.n_bytes)
    if number < SEEN_MIN_MS:
        return 1000 * number if number >= 0 else -1
    while number > SEEN_MAX_MS:
        number //= 1000
    return number


cdef int64_t fraction_time(Name text, bint is_number) noexcept nogil:
    """Read seconds since 1970 with a fraction, or -1. A number is rounded to a millisecond, a text is cut to one."""
    cdef const uint8_t* at = <const uint8_t*>text.at
    cdef int n_whole = 0, n_fraction
    cdef int64_t whole, thousandths, rest = 0
    while n_whole < <int>text.n_bytes and at[n_whole] != c'.':
        n_whole += 1
    n_fraction = <int>text.n_bytes - n_whole - 1
    if not 9 <= n_whole <= 10 or not 3 <= n_fraction <= 9:
        return -1
    whole = digits_of(at, n_whole)
    thousandths = digits_of(at + n_whole + 1, 3)
    rest = digits_of(at + n_whole + 4, n_fraction - 3)
    if whole < 0 or thousandths < 0 or rest < 0 or at[0] == c'0' or whole > MOST_SECONDS:
        return -1
    if is_number and n_fraction > 3:
        if n_fraction < 6:
            rest = rest * (100 if n_fraction == 4 else 10)
        else:
            rest = digits_of(at + n_whole + 4, 3)
        if rest > 502:
            thousandths += 1
        elif rest >= 498:                                # how a float is rounded there is its own affair
            return -1
    return 1000 * whole + thousandths


cdef int64_t iso_time(Name text) noexcept nogil:
    """Read `2026-11-27T04:20:00+01:00`, perhaps with three to nine digits of a fraction, `Z` or a zone; or -1."""
    cdef const uint8_t* at = <const uint8_t*>text.at
    cdef int n = <int>text.n_bytes, zone = 19, zone_h, zone_min = 0
    cdef int64_t seen_s, ms = 0
    if n < 20 or at[4] != c'-' or at[7] != c'-' or at[10] != c'T' or at[13] != c':' or at[16] != c':':
        return -1
    if at[zone] == c'.':
        zone += 1
        while zone < n and is_digit(at[zone]):
            zone += 1
        if not 23 <= zone <= 29:
            return -1
        ms = digits_of(at + 20, 3)
    if n - zone == 6 and (at[zone] == c'+' or at[zone] == c'-') and at[zone + 3] == c':':
        zone_h, zone_min = two_digits(at + zone + 1), two_digits(at + zone + 4)
        if not 0 <= zone_h <= 23 or not 0 <= zone_min <= 59:
            return -1
        zone_min += 60 * zone_h
        if at[zone] == c'-':
            zone_min = -zone_min
    elif n - zone != 1 or at[zone] != c'Z':
        return -1
    if two_digits(at + 17) > 59:
        return -1
    seen_s = seconds_of(
        100 * two_digits(at) + two_digits(at + 2), two_digits(at + 5), two_digits(at + 8), two_digits(at + 11),
        two_digits(at + 14), two_digits(at + 17), zone_min)
    return 1000 * seen_s + ms if seen_s >= 0 else -1


cdef int64_t time_of(const Value* value) noexcept nogil:
    """Return milliseconds since 1970, or -1 if a time is not usual."""
    cdef Name text = value.text
    cdef int64_t seen_ms
    if value.type == WHOLE_NUMBER:
        return whole_time(text)
    if value.type == FRACTION:
        return fraction_time(text, True)
    if value.type != TEXT_VALUE:
        return -1
    seen_ms = fraction_time(text, False)
    if seen_ms < 0:
        seen_ms = iso_time(text)
    if seen_ms < 0 and text.n_bytes == 26:
        seen_ms = clf_time(<const uint8_t*>text.at)
    return seen_ms if seen_ms >= 0 else whole_time(text)


# Keys and presets

cdef inline int slot_of(int scope, Name name) noexcept nogil:
    """Return where a key is looked for first; it is not empty."""
    cdef const uint8_t* at = <const uint8_t*>name.at
    return (
        37 * name.n_bytes + 5 * at[0] + 101 * at[name.n_bytes - 1] + 11 * at[name.n_bytes // 2] + 257 * scope
    ) % KEY_SLOTS


cdef class JsonShapes:
    def __cinit__(self, list presets, *, bint is_one):
        cdef int nth
        self.texts, self.scopes = [], {(): 0}
        self.is_one = is_one
        self.is_usable = len(presets) <= MOST_PRESETS
        for nth, (paths, request, purposes) in enumerate(presets[:MOST_PRESETS]):
            self.add_plan(&self.plans[nth], paths, request)
            for path in purposes:
                self.add_purpose(path.split("."))
        self.url, self.request, self.request_path = [self.id_of((name,)) for name in ("url", "request", "RequestPath")]
        for nth, name in enumerate(("request_uri", "remote_addr", "request", "http_user_agent")):
            self.of_nginx[nth] = self.id_of((name,))

    cdef int add_plan(self, Plan* plan, list paths, str request) except -1:
        """Note where a preset finds its fields."""
        cdef int field, nth
        for field, path in enumerate(paths):
            ways = [tuple(way.split(".")) for way in path.split("|")][:MOST_WAYS + 1]
            self.is_usable &= len(ways) <= MOST_WAYS
            plan.n_ways[field] = min(len(ways), <int>MOST_WAYS)
            plan.is_plain[field] = "|" not in path and "." not in path
            for nth in range(plan.n_ways[field]):
                way = ways[nth]
                plan.ways[field][nth] = self.id_of(way)
                if way[-2:-1] == ("headers",):           # one in another case is looked for only without this
                    wanted = self.id_of((*way[:-1], "User-Agent"))
                    self.is_usable &= plan.wanted in (0, wanted)
                    plan.wanted = wanted
        plan.request = self.id_of((request,))
        self.is_usable &= "." not in request and "|" not in request
        return 0

    cdef int add_purpose(self, list path) except -1:
        """Note a key whose value must be empty."""
        cdef Key* key = &self.keys[self.slot(self.scope_of(tuple(path[:-1])), path[-1])]
        self.is_usable &= key.id == 0
        key.is_purpose = True
        return 0

    cdef int id_of(self, tuple path) except -1:
        """Return where the value at a path is kept, from 1."""
        cdef Key* key = &self.keys[self.slot(self.scope_of(path[:-1]), path[-1])]
        if key.id == 0:
            self.n_ids += 1
            self.is_usable &= self.n_ids < MOST_IDS and not key.is_purpose
            key.id = min(self.n_ids, <int>MOST_IDS - 1)
        return key.id

    cdef int scope_of(self, tuple path) except -1:
        """Return the number of the object at a path."""
        if path not in self.scopes:
            slot = self.slot(self.scope_of(path[:-1]), path[-1])
            self.id_of(path)
            self.scopes[path] = self.keys[slot].inner = len(self.scopes)
        return self.scopes[path]

    cdef int slot(self, int scope, str key) except -1:
        """Return the slot of a key, which may be new."""
        cdef bytes text = key.encode("utf-8", "surrogateescape") or b"-"
        cdef Name name = name_from(text)
        cdef int at = slot_of(scope, name)
        self.is_usable &= key != "" and len(self.texts) < KEY_SLOTS - 1
        while self.is_usable and self.keys[at].name.n_bytes:
            if self.keys[at].scope == scope and same_name(self.keys[at].name, name):
                return at
            at = (at + 1) % KEY_SLOTS
        self.texts.append(text)
        self.keys[at].name = name
        self.keys[at].scope = scope
        return at

    cdef const Key* find(self, int scope, Name name) noexcept nogil:
        """Return what is known of a key, or NULL. O(1)."""
        cdef int at = slot_of(scope, name)
        while self.keys[at].name.n_bytes:
            if self.keys[at].scope == scope and same_name(self.keys[at].name, name):
                return &self.keys[at]
            at = (at + 1) % KEY_SLOTS
        return NULL

    cdef const uint8_t* read_object(
            self, const uint8_t* at, const uint8_t* end, int scope, int depth, Value* values) noexcept nogil:
        """Read an object that begins before `at`; return what follows, or NULL if it is not usual."""
        cdef const uint8_t* stop
        cdef const Key* key
        cdef Name name
        cdef Value value
        while True:
            if at == end or at[0] != c'"':               # an empty object is not usual
                return NULL
            stop = plain_end(at + 1, end, SPACE)
            name = between(at + 1, stop)
            if end - stop < 2 or stop[0] != c'"' or stop[1] != c':' or name.n_bytes == 0:
                return NULL
            at = past_space(stop + 2, end)
            key = self.find(scope, name)
            if key == NULL and scope == 0 and memchr(name.at, c'.', name.n_bytes) != NULL:
                return NULL
            if key != NULL and key.inner and at < end and at[0] == c'{':
                value.type = OBJECT
                at = self.read_object(at + 1, end, key.inner, depth + 1, values)
            else:
                at = value_end(at, end, depth, &value)
            if at == NULL:
                return NULL
            if key != NULL:
                if key.is_purpose and not (value.type == TEXT_VALUE and value.text.n_bytes == 0):
                    return NULL
                if values[key.id].type != ABSENT and not key.is_purpose:
                    return NULL
                values[key.id] = value
            at = past_space(at, end)
            if at == end or at[0] != c',':
                return at + 1 if at < end and at[0] == c'}' else NULL
            at = past_space(at + 1, end)

    cdef const Plan* recognised(self, const Value* values) noexcept nogil:
        """Return the preset that an object's keys belong to, or NULL."""
        cdef int each
        if self.is_one:
            return &self.plans[0]
        if values[self.url].type != ABSENT:
            return &self.plans[BY_OURS]
        if values[self.request].type == OBJECT:
            return &self.plans[BY_CADDY]
        if values[self.request_path].type != ABSENT:
            return &self.plans[BY_TRAEFIK]
        for each in range(4):
            if values[self.of_nginx[each]].type != ABSENT:
                return &self.plans[BY_NGINX]
        return NULL

    cdef bint read(self, const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil:
        cdef Value values[MOST_IDS]
        cdef const Plan* plan
        memset(values, 0, (self.n_ids + 1) * sizeof(Value))
        memset(fields, 0, sizeof(Fields))
        if not self.is_usable or at == end or at[0] != c'{':
            return False
        if self.read_object(past_space(at + 1, end), end, 0, 1, values) != end:
            return False
        plan = self.recognised(values)
        return plan != NULL and read_plan(plan, values, fields)


cdef const Value* chosen(const Plan* plan, int field, const Value* values) noexcept nogil:
    """Return the value of a field, an absent one for one that is nothing."""
    cdef const Value* value = &values[plan.ways[field][0]]
    cdef int nth
    if plan.is_plain[field]:
        return value
    for nth in range(plan.n_ways[field]):
        value = &values[plan.ways[field][nth]]
        if value.type > NULL_VALUE and not (value.type == TEXT_VALUE and is_nothing(value.text)):
            return value
    return &values[0]


cdef inline bint text_of(const Value* value, Name* text) noexcept nogil:
    """Take a value as text; False if it is not usual."""
    if value.type == TEXT_VALUE or value.type == LISTED_TEXT or value.type == WHOLE_NUMBER:
        text[0] = value.text
        return True
    return value.type <= NULL_VALUE


cdef bint read_plan(const Plan* plan, const Value* values, Fields* fields) noexcept nogil:
    """Take the fields from the values of an object; False if one is not usual."""
    cdef const Value* value
    cdef int nth
    if plan.wanted and values[plan.wanted].type == ABSENT:
        return False
    fields.seen_ms = time_of(chosen(plan, TIME, values))
    if fields.seen_ms < 0:
        return False
    if not (
        text_of(chosen(plan, ADDRESS, values), &fields.address) and text_of(chosen(plan, USER, values), &fields.user)
        and text_of(chosen(plan, METHOD, values), &fields.method) and text_of(chosen(plan, URL, values), &fields.url)
        and text_of(chosen(plan, STATUS, values), &fields.status)
        and text_of(chosen(plan, AGENT, values), &fields.agent) and text_of(chosen(plan, HOST, values), &fields.host)
        and text_of(chosen(plan, VISITOR, values), &fields.visitor)
        and text_of(chosen(plan, FORWARDED, values), &fields.forwarded)
        and text_of(chosen(plan, REFERRER, values), &fields.referrer)
        and text_of(chosen(plan, KIND, values), &fields.kind)
    ):
        return False
    if fields.url.n_bytes == 0:
        value = &values[plan.request]
        if value.type != TEXT_VALUE:
            return False
        if not read_request(<const uint8_t*>value.text.at, <const uint8_t*>value.text.at + value.text.n_bytes, fields):
            return False
    if not (fields.address.n_bytes or fields.user.n_bytes or fields.visitor.n_bytes):
        return False
    if fields.user.n_bytes == 0:
        fields.user = NOTHING
    if fields.agent.n_bytes == 0:                        # none was sent, if the object has a place for it
        if plan.wanted:
            return False
        for nth in range(plan.n_ways[AGENT]):
            if values[plan.ways[AGENT][nth]].type != ABSENT:
                fields.agent = NOTHING
    return True
