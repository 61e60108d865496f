"""Names of guests and bots, for C code. See ext/guests.pyx."""

from libc.stdint cimport uint32_t

from online.core.skiplist cimport Name

cdef enum:
    HASH_DIGITS = 16
    MOST_GUEST_BYTES = 22                                # `guest-` and the digits
    MOST_ADDRESS_BYTES = 40                              # of an address in its one form, with some room

cdef struct GuestKey:
    # The two hashes of HMAC behind the key.
    uint32_t inner[8]
    uint32_t outer[8]

cdef int guest_key_begin(GuestKey* key, bytes secret) except -1
cdef int one_form(Name address, char* to) noexcept nogil
cdef int guest_name(const GuestKey* key, bint is_bot, Name known_by, Name agent, char* to) noexcept nogil
