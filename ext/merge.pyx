"""What goes to several servers, and comes from them: batches divided, answers found, lists merged; all as packed.

Its job: whose a hit is, where an answer ends, and which rows come first. Not its job: what is asked, cursors and sums
(gateway/merging.py), and sockets. No hit and no row is unpacked: each is copied as it came.

Invariants:
1. Bytes are looked at once, however an answer is cut into pieces.
2. Whatever a server sends, nothing is read beyond it: what is no answer raises ValueError.
3. Rows of a list stand in the order of their keys, as a server lists them.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from online.core.codec cimport BROKEN, COMPLETE, HUGE_NUMBER, INCOMPLETE, NIL, NUMBER, TEXT
from online.core.index cimport name_from
from online.core.msgpack_values cimport ARRAY, MAP, SCALAR, Token, pack_array, read_token
from online.core.skiplist cimport Name

__all__ = ["Answers", "Listed", "divide", "merge"]

cdef enum:
    MOST_NESTING = 16
    MOST_ANSWER_BYTES = 64 * 1024 * 1024


# Batches

#: Of the polynomial of zlib: slots of users go by its checksum.
cdef uint32_t[256] CRC_TABLE
cdef uint32_t _crc
for _byte in range(256):
    _crc = _byte
    for _bit in range(8):
        _crc = (_crc >> 1) ^ (0xEDB88320 if _crc & 1 else 0)
    CRC_TABLE[_byte] = _crc


cdef uint32_t crc_of(Name text) noexcept nogil:
    cdef uint32_t crc = 0xFFFFFFFF, i
    for i in range(text.n_bytes):
        crc = CRC_TABLE[(crc ^ <uint8_t>text.at[i]) & 0xFF] ^ (crc >> 8)
    return ~crc


def divide(bytes hits not None, tuple owners not None):
    cdef const uint8_t* begin = <const uint8_t*><const char*>hits
    cdef size_t at = 0, size = len(hits), end
    cdef Py_ssize_t n_slots = len(owners)
    cdef Token hit, user
    cdef bytes digits
    cdef list found = [], pieces
    cdef dict by_owner = {}
    while at < size:
        end = value_end(begin, at, size)
        read_token(&hit, begin + at, size - at)
        user.arg.text.n_bytes = 0
        if hit.type == ARRAY and hit.n and at + hit.size < end:
            read_token(&user, begin + at + hit.size, end - at - hit.size)
            if user.type == SCALAR and user.arg.type in (NUMBER, HUGE_NUMBER):
                digits = b"%d" % (user.arg.number if user.arg.type == NUMBER else <uint64_t>user.arg.number)
                user.arg.text = name_from(digits)
            elif user.type != SCALAR or user.arg.type != TEXT:
                user.arg.text.n_bytes = 0
        owner = owners[crc_of(user.arg.text) % n_slots]
        found.append(owner)
        pieces = by_owner.get(owner)
        if pieces is None:
            pieces = by_owner[owner] = []
        pieces.append(hits[at:end])
        at = end
    return by_owner, found


# Answers

cdef class Answers:
    """What one server sends."""

    cdef bytes left                                      # from the beginning of the first answer that is not whole
    cdef size_t at                                       # so much of it was looked at
    cdef int depth
    cdef int64_t[MOST_NESTING] wanted                    # values still to come, by depth

    def __init__(self):
        self.left = b""

    def take(self, bytes data not None):
        cdef bytes all = self.left + data if self.left else data
        cdef const uint8_t* begin = <const uint8_t*><const char*>all
        cdef size_t size = len(all), first = 0
        cdef Token token
        cdef int progress
        cdef list found = []
        while True:
            progress = read_token(&token, begin + self.at, size - self.at)
            if progress == BROKEN:
                raise ValueError("no answer of a server")
            if progress == INCOMPLETE or token.size > size - self.at:
                break
            self.at += token.size
            if self.depth:
                self.wanted[self.depth - 1] -= 1
            elif token.type != ARRAY:
                raise ValueError("no answer of a server")
            if token.type != SCALAR and token.n:
                if self.depth == MOST_NESTING:
                    raise ValueError("an answer is nested too deep")
                self.wanted[self.depth] = 2 * token.n if token.type == MAP else token.n
                self.depth += 1
            while self.depth and self.wanted[self.depth - 1] == 0:
                self.depth -= 1
            if self.depth == 0:
                answer = answer_of(all, first, self.at)
                if answer is not None:
                    found.append(answer)
                first = self.at
        self.left = all[first:]
        self.at -= first
        if len(self.left) > MOST_ANSWER_BYTES:
            raise ValueError(f"an answer has more than {MOST_ANSWER_BYTES} bytes")
        return found


cdef size_t value_end(const uint8_t* begin, size_t at, size_t end) noexcept:
    """Return where the value at `at` ends; all of it is there."""
    cdef Token token
    cdef int64_t left = 1
    while left and at < end:
        if read_token(&token, begin + at, end - at) != COMPLETE:
            return end
        at += token.size
        left -= 1
        if token.type != SCALAR:
            left += 2 * token.n if token.type == MAP else token.n
    return at


cdef answer_of(bytes all, size_t first, size_t end):
    """Return (msgid, error or None, result) of a whole message `[1, msgid, error, result]`; None for what is told."""
    cdef const uint8_t* begin = <const uint8_t*><const char*>all
    cdef Token head, kind, msgid, error
    cdef size_t at = first, error_at
    head.n = 0
    read_token(&head, begin + at, end - at)
    at += head.size
    if not 3 <= head.n <= 4:
        raise ValueError("no answer of a server")
    read_token(&kind, begin + at, end - at)
    at += kind.size
    if kind.type != SCALAR or kind.arg.type != NUMBER or kind.arg.number != (1 if head.n == 4 else 2):
        raise ValueError("no answer of a server")
    if head.n == 3:
        return None
    read_token(&msgid, begin + at, end - at)
    at += msgid.size
    if msgid.type != SCALAR or msgid.arg.type not in (NIL, NUMBER):
        raise ValueError("no answer of a server")
    error_at = at
    read_token(&error, begin + at, end - at)
    at = value_end(begin, at, end)
    return (
        msgid.arg.number if msgid.arg.type == NUMBER else None,
        None if error.type == SCALAR and error.arg.type == NIL else all[error_at:at],
        all[at:end],
    )


# Lists

cdef struct Row:
    const char* at
    size_t n_bytes
    Name user
    int64_t key
    int64_t nth                                          # of the answers that were added

cdef class Listed:
    """What one server has listed, perhaps in several answers."""

    cdef readonly list counts                            # numbers before the rows of the first answer
    cdef public object cursor                            # where it goes on; None: it has no more
    cdef list answers                                    # rows point into them
    cdef list begins                                     # and the cursors with which they were asked for
    cdef int64_t n                                       # rows
    cdef Row* rows
    cdef int64_t room
    cdef int key_at                                      # the item of a row that is its time; 0: it goes by name

    def __init__(self, int key_at):
        self.key_at, self.answers, self.begins = key_at, [], []

    def __dealloc__(self):
        free(self.rows)

    def __len__(self):
        return self.n

    def add(self, bytes answer not None, bytes begin_at, is_behind=None):
        cdef const uint8_t* begin = <const uint8_t*><const char*>answer
        cdef size_t at = 0, end = len(answer)
        cdef list counts = []
        cdef Token token
        cdef int64_t n_items, n_rows, _i
        cdef Row row
        row.nth = len(self.answers)
        self.answers.append(answer)
        self.begins.append(begin_at)
        n_items = array_at(begin, &at, end)
        for _i in range(n_items - 2):
            value_at(&token, begin, &at, end)
            if token.arg.type != NUMBER:
                raise ValueError("no list of a server")
            counts.append(token.arg.number)
        n_rows = array_at(begin, &at, end)
        for _i in range(n_rows):
            read_row(&row, self.key_at, begin, &at, end)
            if is_behind is None or is_behind(key_of(self, &row), row.user.at[:row.user.n_bytes]):
                self.append(&row)
        value_at(&token, begin, &at, end)
        if token.arg.type == TEXT:
            self.cursor = <bytes>token.arg.text.at[:token.arg.text.n_bytes]
        elif token.arg.type == NIL:
            self.cursor = None
        else:
            raise ValueError("no list of a server")
        if self.counts is None:
            self.counts = counts

    cdef int append(self, const Row* row) except -1:
        cdef void* at
        if self.n == self.room:
            at = realloc(self.rows, max(2 * self.room, 32) * sizeof(Row))
            if at == NULL:
                raise MemoryError("no memory for a list")
            self.rows, self.room = <Row*>at, max(2 * self.room, 32)
        self.rows[self.n] = row[0]
        self.n += 1
        return 0

    def key(self, int64_t nth):
        return key_of(self, self.row(nth))

    def user(self, int64_t nth):
        cdef const Row* row = self.row(nth)
        return row.user.at[:row.user.n_bytes]

    def begin(self, int64_t nth):
        return self.begins[self.row(nth).nth]

    cdef const Row* row(self, int64_t nth) except NULL:
        if not 0 <= nth < self.n:
            raise IndexError(nth)
        return &self.rows[nth]


cdef key_of(Listed listed, const Row* row):
    return row.key if listed.key_at else row.user.at[:row.user.n_bytes]


cdef int value_at(Token* token, const uint8_t* begin, size_t* at, size_t end) except -1:
    """Read a value that is no container."""
    if read_token(token, begin + at[0], end - at[0]) <= INCOMPLETE or token.size > end - at[0] or token.type != SCALAR:
        raise ValueError("no list of a server")
    at[0] += token.size
    return 0


cdef int64_t array_at(const uint8_t* begin, size_t* at, size_t end) except -1:
    """Read the head of an array."""
    cdef Token token
    if read_token(&token, begin + at[0], end - at[0]) <= INCOMPLETE or token.type != ARRAY:
        raise ValueError("no list of a server")
    at[0] += token.size
    return token.n


cdef int read_row(Row* row, int key_at, const uint8_t* begin, size_t* at, size_t end) except -1:
    cdef size_t first = at[0]
    cdef int64_t n = array_at(begin, at, end), i
    cdef Token token
    row.key = INT64_MAX
    row.user.n_bytes = 0
    for i in range(n):
        value_at(&token, begin, at, end)
        if i == 0 and token.arg.type == TEXT:
            row.user = token.arg.text
        elif i == key_at and token.arg.type == NUMBER:
            row.key = -token.arg.number
    row.at = <const char*>begin + first
    row.n_bytes = at[0] - first
    return 0


cdef bint comes_before(const Row* row, const Row* other, bint by_name) noexcept nogil:
    cdef int order
    if not by_name:
        return row.key < other.key
    order = memcmp(row.user.at, other.user.at, min(row.user.n_bytes, other.user.n_bytes))
    return order < 0 or (order == 0 and row.user.n_bytes < other.user.n_bytes)


def merge(list parts not None, int64_t limit):
    cdef int64_t n_taken = 0
    cdef list taken = [0] * len(parts), pieces = []
    cdef Listed part
    cdef const Row* row
    cdef const Row* best
    cdef char[8] head
    cdef Py_ssize_t each, owner
    cdef int64_t nth
    while n_taken < limit:
        best, owner = NULL, -1
        for each in range(len(parts)):
            part, nth = parts[each], taken[each]
            if nth < part.n:
                row = &part.rows[nth]
                if best == NULL or comes_before(row, best, part.key_at == 0):
                    best, owner = row, each
        if best == NULL:
            break
        pieces.append(best.at[:best.n_bytes])
        taken[owner] += 1
        n_taken += 1
    return head[:pack_array(head, n_taken)] + b"".join(pieces), taken
