"""What this machine takes for one load from memory, and how much of its time it keeps for itself.

Its job: the units that other measurements are told in, taken in the same run. Not its job: anything of this project.

A chain of nodes, a cache line each, is shuffled into a single circle; each step along it waits for the one before.
"""

from libc.stdint cimport int64_t, uint64_t

__all__ = ["Yardstick", "longest_gap_ns"]

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int madvise(void* address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MADV_HUGEPAGE, MADV_NOHUGEPAGE
    void* MAP_FAILED

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

cdef enum:
    LINE_BYTES = 64

cdef size_t HUGE_PAGE_BYTES = 2 << 20

cdef struct Node:
    uint64_t next
    uint64_t unused[7]


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1_000_000_000 + now.tv_nsec


cdef void shuffle(Node* nodes, uint64_t n) noexcept nogil:
    """Link the nodes to one circle in random order (Sattolo 1986), by a seeded generator (xorshift64*)."""
    cdef uint64_t state = 0x9E3779B97F4A7C15ULL
    cdef uint64_t i, j, kept
    for i in range(n):
        nodes[i].next = i
    for i in range(n - 1, 0, -1):
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        j = (state * <uint64_t>0x2545F4914F6CDD1D >> 16) % i
        kept = nodes[i].next
        nodes[i].next = nodes[j].next
        nodes[j].next = kept


cdef class Yardstick:
    cdef Node* nodes
    cdef char* mapped
    cdef size_t mapped_bytes
    cdef uint64_t n_nodes, at

    def __cinit__(self, int64_t n_bytes, *, bint huge_pages):
        cdef void* mapped
        if n_bytes < 2 * LINE_BYTES:
            raise ValueError(f"n_bytes takes at least {2 * LINE_BYTES}, not {n_bytes}")
        self.n_nodes = <uint64_t>n_bytes // LINE_BYTES
        self.mapped_bytes = <size_t>n_bytes + HUGE_PAGE_BYTES
        mapped = mmap(NULL, self.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if mapped == MAP_FAILED:
            raise MemoryError
        self.mapped = <char*>mapped
        madvise(mapped, self.mapped_bytes, MADV_HUGEPAGE if huge_pages else MADV_NOHUGEPAGE)
        self.nodes = <Node*>(self.mapped + (-<size_t>self.mapped & (HUGE_PAGE_BYTES - 1)))
        with nogil:
            shuffle(self.nodes, self.n_nodes)

    def __dealloc__(self):
        if self.mapped != NULL:
            munmap(self.mapped, self.mapped_bytes)

    def load_ns(self, int64_t n_loads):
        cdef uint64_t at = self.at
        cdef int64_t left = n_loads, began_ns
        with nogil:
            began_ns = now_ns()
            while left:
                at = self.nodes[at].next
                left -= 1
            began_ns = now_ns() - began_ns
        self.at = at
        return <double>began_ns / <double>n_loads

    def circle(self):
        cdef uint64_t at = self.nodes[0].next
        cdef int64_t steps = 1
        while at:
            at = self.nodes[at].next
            steps += 1
        return steps


def longest_gap_ns(double for_s):
    cdef int64_t last_ns = now_ns(), end_ns = last_ns + <int64_t>(for_s * 1e9), at_ns, longest_ns = 0
    with nogil:
        while last_ns < end_ns:
            at_ns = now_ns()
            if at_ns - last_ns > longest_ns:
                longest_ns = at_ns - last_ns
            last_ns = at_ns
    return longest_ns
