"""The fields of a usual JSON object of an access log. See ext/jsonfields.pyx."""

from libc.stdint cimport uint8_t

from online.core.logfields cimport Fields
from online.core.skiplist cimport Name

cdef enum:
    FIELDS = 12                                          # as the first of online.logs.jsonlines.JsonFields
    MOST_WAYS = 8
    MOST_PRESETS = 4
    MOST_IDS = 96
    KEY_SLOTS = 512

cdef enum ValueType:
    ABSENT
    NULL_VALUE
    TEXT_VALUE
    LISTED_TEXT                                          # a list of one text that is neither empty nor `-`
    WHOLE_NUMBER
    FRACTION
    OBJECT
    OTHER_VALUE

cdef struct Value:
    ValueType type
    Name text                                            # as it stands in the line

cdef struct Key:
    Name name                                            # empty: no key
    uint8_t scope                                        # the object that it is a key of; 0 is the outermost
    uint8_t inner                                        # the scope of its own keys, if they are read; or 0
    uint8_t id                                           # where its value is kept, from 1; 0 if it is not
    bint is_purpose                                      # its value must be empty

cdef struct Plan:
    # Where a preset finds each field.
    uint8_t n_ways[FIELDS]
    uint8_t ways[FIELDS][MOST_WAYS]                      # ids, the best first
    bint is_plain[FIELDS]                                # taken as it is, even if it is `-`
    uint8_t request                                      # the id of the whole request line
    uint8_t wanted                                       # the id that has to be there for headers to be found; or 0

cdef class JsonShapes:
    cdef list texts                                      # holds the names of keys
    cdef dict scopes                                     # path -> number
    cdef Plan plans[MOST_PRESETS]
    cdef Key keys[KEY_SLOTS]
    cdef int n_ids
    cdef bint is_one                                     # all objects have the first preset
    cdef bint is_usable                                  # the presets fit here
    cdef uint8_t url, request, request_path              # ids by which an object is recognised
    cdef uint8_t of_nginx[4]

    cdef int add_plan(self, Plan* plan, list paths, str request) except -1
    cdef int add_purpose(self, list path) except -1
    cdef int id_of(self, tuple path) except -1
    cdef int scope_of(self, tuple path) except -1
    cdef int slot(self, int scope, str key) except -1
    cdef const Key* find(self, int scope, Name name) noexcept nogil
    cdef const uint8_t* read_object(
        self, const uint8_t* at, const uint8_t* end, int scope, int depth, Value* values) noexcept nogil
    cdef const Plan* recognised(self, const Value* values) noexcept nogil
    cdef bint read(self, const uint8_t* at, const uint8_t* end, Fields* fields) noexcept nogil
