"""Lists of sessions and their cursors. See ext/lists.pyx."""

from libc.stdint cimport int64_t

from online.core.arena cimport ref_t
from online.core.core cimport Core
from online.core.skiplist cimport Name, Order

cdef enum:
    CURSOR_TAG_BYTES = 17                                # a dot and 16 hexadecimal digits
    CURSOR_PLACE_BYTES = 24                              # longest place in time

cdef enum Scope:                                         # what a cursor is good for
    OF_PAGE
    OF_RECENT
    OF_USERS

cdef struct Listing:
    Order order
    ref_t at                                             # the next to list, or `end`
    ref_t end
    Name prefix

cdef Listing core_list_page(Core* core, ref_t page) noexcept nogil
cdef Listing core_list_recent(Core* core) noexcept nogil
cdef Listing core_list_users(Core* core, Name prefix) noexcept nogil
cdef bint core_has_more(Core* core, const Listing* listing) noexcept nogil
cdef int64_t core_list(Core* core, Listing* listing, ref_t* sessions, int64_t limit, int64_t* left) noexcept nogil
cdef bint core_continue(Core* core, Listing* listing, Scope scope, Name of, Name cursor) noexcept nogil
cdef size_t core_cursor(Core* core, Scope scope, Name of, ref_t last, char* out) noexcept nogil
cdef size_t core_cursor_bytes(const Core* core) noexcept nogil
cdef ref_t first_from(Core* core, ref_t head, Name name) noexcept nogil
