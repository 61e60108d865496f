"""CRC-32C for C code. See ext/checksum.pyx."""

from libc.stdint cimport uint32_t

cdef uint32_t checksum_add(uint32_t crc, const void* at, size_t n) noexcept nogil
