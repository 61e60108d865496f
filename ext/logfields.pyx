"""A usual line of an access log -> its fields: common, combined and vhost_combined, and the usual header of syslog.

Its job: to take apart, in one pass and without an object, what servers write when nothing is odd. Not its job: lines in
which something is (online.logs.formats and online.logs.syslogheader, the rule for all of them), JSON (jsonfields), and
what a line means (usual).

Invariants:
1. What is read here, the careful way reads alike. Where there is a doubt, a line is not usual: an escape, a byte
   beyond ASCII, a control character, an empty agent, words in front, fields behind.
2. Linear in the length of the line; nothing is read from beyond its end.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memcmp, memset

from online.core.skiplist cimport Name

cdef enum:
    SPACE = 32
    DATE_BYTES = 26                                      # 10/Oct/2000:13:55:36 -0700
    TIME_BYTES = 15                                      # Nov 22 23:55:00

cdef const char* MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
cdef int[13] MONTH_DAYS = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
cdef int[13] DAYS_BEFORE = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]


# Times

cdef inline bint is_leap(int year) noexcept nogil:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


cdef int64_t seconds_of(int year, int month, int day, int hour, int minute, int second, int zone_min) noexcept nogil:
    """Return seconds since 1970, or -1 where a part is none; `zone_min`: how far its clock is ahead of UTC.

    A leap second counts as the first second of the next minute.
    """
    cdef int64_t days
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= MONTH_DAYS[month]):
        return -1
    if day == 29 and month == 2 and not is_leap(year):
        return -1
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60):
        return -1
    days = 365 * (year - 1970) + (year - 1969) // 4 - (year - 1901) // 100 + (year - 1601) // 400
    days += DAYS_BEFORE[month] + day - 1 + (month > 2 and is_leap(year))
    return 86_400 * days + 3600 * hour + 60 * (minute - zone_min) + second


cdef inline int month_of(const uint8_t* at) noexcept nogil:
    """Return the month that three letters name, from 1, or 0."""
    cdef int month
    for month in range(12):
        if memcmp(at, MONTHS + 3 * month, 3) == 0:
            return month + 1
    return 0


cdef int64_t clf_time(const uint8_t* at) noexcept nogil:
    """Read `10/Oct/2000:13:55:36 -0700`, all 26 bytes; return milliseconds since 1970, or -1."""
    cdef int zone_h, zone_min
    cdef int64_t seen_s
    if not (at[2] == at[6] == c'/' and at[11] == at[14] == at[17] == c':' and at[20] == SPACE):
        return -1
    zone_h, zone_min = two_digits(at + 22), two_digits(at + 24)
    if at[21] != c'+' and at[21] != c'-' or not 0 <= zone_h <= 19 or not 0 <= zone_min <= 59:
        return -1
    zone_min += 60 * zone_h
    seen_s = seconds_of(
        100 * two_digits(at + 7) + two_digits(at + 9), month_of(at + 3), two_digits(at),
        two_digits(at + 12), two_digits(at + 15), two_digits(at + 18), -zone_min if at[21] == c'-' else zone_min)
    return -1 if seen_s < 0 else 1000 * seen_s


# Lines

cdef inline bint has(Name text, char byte) noexcept nogil:
    return memchr(text.at, byte, text.n_bytes) != NULL


cdef inline bint is_method_byte(uint8_t byte) noexcept nogil:
    return <uint8_t>((byte | 32) - c'a') < 26 or is_digit(byte) or byte == c'-' or byte == c'_'


cdef inline bint is_host_byte(uint8_t byte) noexcept nogil:
    return is_method_byte(byte) or byte == c'.'


cdef inline const uint8_t* digits_end(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and is_digit(at[0]):
        at += 1
    return at


cdef inline const uint8_t* word(const uint8_t* at, const uint8_t* end, Name* text) noexcept nogil:
    """Read a word and the space behind it; return what follows, or NULL."""
    cdef const uint8_t* stop = plain_end(at, end, SPACE + 1)
    text[0] = between(at, stop)
    return stop + 1 if at < stop < end and stop[0] == SPACE else NULL


cdef inline const uint8_t* quoted(const uint8_t* at, const uint8_t* end, Name* text) noexcept nogil:
    """Read ` "text"`; return what follows, or NULL."""
    cdef const uint8_t* stop
    if end - at < 3 or at[0] != SPACE or at[1] != c'"':
        return NULL
    stop = plain_end(at + 2, end, SPACE)
    text[0] = between(at + 2, stop)
    return stop + 1 if stop < end and stop[0] == c'"' else NULL


cdef bint read_request(const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil:
    """Read `GET /url` up to the end, or to a space and whatever follows: method and url of `fields`."""
    cdef const uint8_t* stop = at
    while stop < end and is_method_byte(stop[0]):
        stop += 1
    fields.method = between(at, stop)
    if at == stop or end - stop < 2 or stop[0] != SPACE:
        return False
    at = stop + 1
    stop = plain_end(at, end, SPACE + 1)
    fields.url = between(at, stop)
    return at < stop and (stop == end or stop[0] == SPACE)


cdef const uint8_t* read_host(const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil:
    """Read a virtual host, perhaps with a port, and a space; return what follows, or NULL."""
    cdef const uint8_t* stop = at
    cdef const uint8_t* port
    while stop < end and is_host_byte(stop[0]):
        stop += 1
    if stop == at or stop == end:
        return NULL
    fields.host = between(at, stop)
    if stop[0] == c':' or stop[0] == SPACE:
        port = digits_end(stop + 1, end)
        if port > stop + 1 and port < end and port[0] == SPACE:
            return port + 1
    return stop + 1 if stop[0] == SPACE else NULL


cdef bint read_line(const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil:
    """Read a line in common or combined format, perhaps with X-Forwarded-For behind it."""
    cdef Name ident
    cdef const uint8_t* stop
    at = word(at, end, &fields.address)
    if at != NULL:
        at = word(at, end, &ident)
    if at != NULL:
        at = word(at, end, &fields.user)
    if at == NULL or has(fields.address, c'<') or has(fields.user, c'[') or end - at < DATE_BYTES + 4:
        return False
    if at[0] != c'[' or at[DATE_BYTES + 1] != c']' or at[DATE_BYTES + 2] != SPACE or at[DATE_BYTES + 3] != c'"':
        return False
    fields.seen_ms = clf_time(at + 1)
    at += DATE_BYTES + 4
    stop = plain_end(at, end, SPACE)
    if fields.seen_ms < 0 or stop == end or stop[0] != c'"' or not read_request(at, stop, fields):
        return False
    if <const uint8_t*>fields.url.at + fields.url.n_bytes == stop:  # without a protocol
        return False
    at = stop + 1
    if end - at < 6 or at[0] != SPACE or at[4] != SPACE or digits_end(at + 1, at + 4) != at + 4:
        return False
    fields.status = between(at + 1, at + 4)
    at += 5
    stop = at + 1 if at[0] == c'-' else digits_end(at, end)
    if stop == at:
        return False
    if stop == end:
        return True
    at = quoted(stop, end, &fields.referrer)
    if at != NULL:
        at = quoted(at, end, &fields.agent)
    if at == NULL or fields.agent.n_bytes == 0:
        return False
    return at == end or quoted(at, end, &fields.forwarded) == end


cdef bint read_usual(const uint8_t* at, const uint8_t* end, HostShape shape, Fields* fields) noexcept nogil:
    """Read a line of a log without its newline; False if it is not usual. O(length)."""
    memset(fields, 0, sizeof(Fields))
    if shape != WITH_HOST and read_line(at, end, fields):
        return True
    if shape == NO_HOST:
        return False
    memset(fields, 0, sizeof(Fields))
    at = read_host(at, end, fields)
    if at == NULL or not read_line(at, end, fields):
        return False
    # Without its host, a line whose address is `-` could be one of a user with spaces in his name.
    return not (fields.address.n_bytes == 1 and fields.address.at[0] == c'-')


# The header of syslog

cdef inline const uint8_t* name_end(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and is_host_byte(at[0]):
        at += 1
    return at


cdef const uint8_t* usual_header(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return what follows `<190>Nov 22 23:55:00 web1 nginx[17]: `, or NULL. Host and number may be missing."""
    cdef const uint8_t* stop
    if end - at < TIME_BYTES + 8 or at[0] != c'<':
        return NULL
    stop = digits_end(at + 1, at + 4)
    if stop == at + 1 or stop[0] != c'>' or end - stop < TIME_BYTES + 4:
        return NULL
    at = stop + 1
    if not (month_of(at) and at[3] == at[6] == at[15] == SPACE and at[9] == at[12] == c':'):
        return NULL
    if not (at[4] == SPACE or is_digit(at[4])) or not is_digit(at[5]):
        return NULL
    if two_digits(at + 7) < 0 or two_digits(at + 10) < 0 or two_digits(at + 13) < 0:
        return NULL
    at += TIME_BYTES + 1
    stop = name_end(at, end)
    if at < stop < end and stop[0] == SPACE:
        at = stop + 1
        stop = name_end(at, end)
    if stop == at:
        return NULL
    if stop < end and stop[0] == c'[':
        at = digits_end(stop + 1, end)
        if at == stop + 1 or at == end or at[0] != c']':
            return NULL
        stop = at + 1
    if end - stop < 3 or stop[0] != c':' or stop[1] != SPACE or stop[2] in (SPACE, c'@'):
        return NULL
    return stop + 2
