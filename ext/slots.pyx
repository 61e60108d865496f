"""Whose users a server has, where users are divided among servers. Contracts stand in slots.pyi.

Its job: the slot of a user, and whether it is ours, at each hit. Not its job: the map that says so
(online/partitions), and what becomes of users who move (online/bus).

The slot is zlib's CRC-32, modulo the number of slots: every language has it. A row of 256 words costs 15 ns for a name
of 12 bytes. Servers without a map do not pay it.
"""

from libc.stdint cimport uint8_t, uint32_t

from online import errors

from online.core.skiplist cimport Name

__all__ = ["Slots"]

cdef extern from *:
    """
    static uint32_t zlib_row[256];

    static void zlib_row_begin(void) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = i;
            for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
            zlib_row[i] = crc;
        }
    }
    """
    const uint32_t zlib_row[256]
    void zlib_row_begin()

zlib_row_begin()


cdef uint32_t slot_of(Name user) noexcept nogil:
    """Return the slot of a user. O(bytes)."""
    cdef uint32_t crc = 0xFFFFFFFFU
    cdef uint32_t i
    for i in range(user.n_bytes):
        crc = crc >> 8 ^ zlib_row[(crc ^ <uint8_t>user.at[i]) & 255]
    return ~crc % N_SLOTS


cdef class Slots:
    def __init__(self, owners, names, int own):
        self.change(owners, names, own)

    def change(self, owners, names, int own):
        cdef int slot
        if len(owners) != N_SLOTS:
            raise ValueError(f"{len(owners)} owners for {N_SLOTS} slots")
        for slot in range(N_SLOTS):
            self.owned.mine[slot] = owners[slot] == own
        self.owners, self.names = owners, names

    @property
    def mine(self):
        return sum(self.owned.mine[slot] for slot in range(N_SLOTS))

    @property
    def moved(self):
        return self.owned.moved

    def owns(self, bytes user not None):
        return owns(&self.owned, view_of(user))

    cdef error_of(self, bytes user):
        """Return the error for a hit of a user who is not ours."""
        cdef uint32_t slot = slot_of(view_of(user))
        return errors.moved(slot, self.names[self.owners[slot]])


cdef inline Name view_of(bytes user):
    cdef Name name
    name.at = user
    name.n_bytes = <uint32_t>len(user)
    return name
