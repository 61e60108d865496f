"""What was said of parts of lines: key -> verdict, inline. `usual` and `tally` repeat it.

Its job: to find a verdict again by the bytes of its key. Not its job: what verdicts mean.

Invariants:
1. Keys are compared whole.
2. A key stands in the set that its checksum names, newest first; a set has SLOTS_A_SET places, and the oldest goes.
   Who makes keys collide on purpose makes their verdicts be asked for again, no more.
3. Memory is bounded: sets are doubled where one is full, up to `most_sets`, if an eighth of all slots is in use. So
   nothing goes before that, but what collides on purpose.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from online.core.checksum cimport checksum_add
from online.core.skiplist cimport Name

cdef enum:
    SLOTS_A_SET = 4
    FIRST_SETS = 64
    MOST_KEY_BYTES = 512

cdef struct Slot:
    uint32_t hash
    uint32_t n                                           # for who counts
    PyObject* key                                        # bytes; NULL where nothing is
    PyObject* verdict

cdef struct Known:
    Slot* slots
    uint32_t n_sets                                      # a power of two
    uint32_t most_sets
    uint32_t n_used                                      # slots

cdef struct Text:
    # A key that is put together from parts; too long if it has MOST_KEY_BYTES.
    char at[MOST_KEY_BYTES]
    size_t n_bytes

cdef inline int known_begin(Known* known, uint32_t most_sets) except -1:
    known.slots = <Slot*>calloc(FIRST_SETS * SLOTS_A_SET, sizeof(Slot))
    if known.slots == NULL:
        raise MemoryError("no memory for what is known of lines")
    known.n_sets, known.most_sets, known.n_used = FIRST_SETS, most_sets, 0
    return 0

cdef inline void known_end(Known* known) noexcept:
    cdef size_t i
    if known.slots != NULL:
        for i in range(<size_t>known.n_sets * SLOTS_A_SET):
            Py_XDECREF(known.slots[i].key)
            Py_XDECREF(known.slots[i].verdict)
        free(known.slots)

cdef inline Slot* set_of(const Known* known, uint32_t hash) noexcept:
    return &known.slots[<size_t>(hash & (known.n_sets - 1)) * SLOTS_A_SET]

cdef inline Slot* slot_of(const Known* known, const char* key, size_t n) noexcept:
    """Return the slot of a key, valid until the next is put, or NULL. O(n)."""
    cdef uint32_t hash = checksum_add(0, key, n)
    cdef Slot* slot = set_of(known, hash)
    cdef int i
    for i in range(SLOTS_A_SET):
        if slot[i].hash == hash and slot[i].key != NULL and <size_t>PyBytes_GET_SIZE(<bytes>slot[i].key) == n:
            if memcmp(PyBytes_AS_STRING(<bytes>slot[i].key), key, n) == 0:
                return &slot[i]
    return NULL

cdef inline bint known_grow(Known* known) noexcept:
    """Double the sets: each becomes two. False if there is no memory for it. O(sets)."""
    cdef Slot* old = known.slots
    cdef Slot* slots = <Slot*>calloc(<size_t>known.n_sets * 2 * SLOTS_A_SET, sizeof(Slot))
    cdef Slot* to
    cdef size_t i
    if slots == NULL:
        return False
    known.slots = slots
    known.n_sets *= 2
    for i in range(<size_t>known.n_sets // 2 * SLOTS_A_SET):
        if old[i].key != NULL:
            to = set_of(known, old[i].hash)
            while to.key != NULL:
                to += 1
            to[0] = old[i]
    free(old)
    return True

cdef inline Slot* put(Known* known, const char* key, size_t n, verdict) except NULL:
    """Remember what was said of a key that has no slot; the oldest of its set goes. Return the slot. O(n)."""
    cdef uint32_t hash = checksum_add(0, key, n)
    cdef bytes kept = PyBytes_FromStringAndSize(key, n)
    cdef Slot* slot
    cdef PyObject* gone_key
    cdef PyObject* gone_verdict
    cdef int i
    slot = set_of(known, hash)
    while slot[SLOTS_A_SET - 1].key != NULL and known.n_used >= known.n_sets * SLOTS_A_SET // 8:
        if known.n_sets >= known.most_sets or not known_grow(known):
            break
        slot = set_of(known, hash)
    gone_key, gone_verdict = slot[SLOTS_A_SET - 1].key, slot[SLOTS_A_SET - 1].verdict
    known.n_used += gone_key == NULL
    for i in range(SLOTS_A_SET - 1, 0, -1):
        slot[i] = slot[i - 1]
    Py_INCREF(kept)
    Py_INCREF(verdict)
    slot.hash, slot.n = hash, 0
    slot.key, slot.verdict = <PyObject*>kept, <PyObject*>verdict
    Py_XDECREF(gone_key)
    Py_XDECREF(gone_verdict)
    return slot

# Keys

cdef inline void add(Text* text, Name part) noexcept:
    """Add a part and what ends it: no part but the last has a zero in it."""
    if text.n_bytes + part.n_bytes + 1 > MOST_KEY_BYTES:
        text.n_bytes = MOST_KEY_BYTES
        return
    if part.n_bytes:                                     # what a line does not have stands nowhere
        memcpy(text.at + text.n_bytes, part.at, part.n_bytes)
        text.n_bytes += part.n_bytes
    text.at[text.n_bytes] = 0
    text.n_bytes += 1

cdef inline Slot* slot_of_text(const Known* known, const Text* text) noexcept:
    return slot_of(known, text.at, text.n_bytes) if text.n_bytes < MOST_KEY_BYTES else NULL

cdef inline object text_of(Name text):
    return PyBytes_FromStringAndSize(text.at, text.n_bytes)
