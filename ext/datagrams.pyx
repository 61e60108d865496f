"""Datagrams, received many with one call of the system, without an object each. Contracts stand in datagrams.pyi.

Its job: to receive what waits, to leave out who may not send, and to note how much the kernel has dropped. Not its job:
to open sockets (listeners), and what datagrams say (usual). Where there is no recvmmsg(2), each takes a call.

Invariants:
1. What is held stays as it is until the next call of `receive`.
2. Answers of `may_send` are kept for up to MOST_KNOWN addresses; a full memory is emptied.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

cdef enum:
    MOST_KNOWN = 4096
    # Not a power of two: the beginnings of datagrams would share the same few lines of a cache.
    STRIDE_BYTES = DATAGRAM_BYTES + 832

cdef extern from *:
    """
    #include <errno.h>
    #include <netinet/in.h>
    #include <string.h>
    #include <sys/socket.h>

    #ifdef __linux__
    #ifndef SO_RXQ_OVFL
    #define SO_RXQ_OVFL 40
    #endif
    typedef struct mmsghdr many_t;
    #else
    typedef struct { struct msghdr msg_hdr; unsigned msg_len; } many_t;
    #endif

    typedef union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } sender_t;

    #define MOST_AT_ONCE 64                              /* MOST_DATAGRAMS */
    #define CONTROL_BYTES 64
    static many_t many[MOST_AT_ONCE];
    static struct iovec pieces[MOST_AT_ONCE];
    static sender_t senders[MOST_AT_ONCE];
    static union { char bytes[CONTROL_BYTES]; struct cmsghdr aligned; } controls[MOST_AT_ONCE];

    /* Receive up to MOST_AT_ONCE datagrams; return how many, or -1 with errno. */
    static int receive_many(
        int fd, char* room, size_t stride, size_t most_bytes, int with_senders, int one_by_one
    ) {
        int n;
        for (int i = 0; i < MOST_AT_ONCE; i++) {
            struct msghdr* header = &many[i].msg_hdr;
            memset(header, 0, sizeof(*header));
            pieces[i].iov_base = room + i * stride;
            pieces[i].iov_len = most_bytes;
            header->msg_iov = &pieces[i];
            header->msg_iovlen = 1;
            header->msg_name = with_senders ? &senders[i] : NULL;
            header->msg_namelen = with_senders ? sizeof(senders[i]) : 0;
            header->msg_control = &controls[i];
            header->msg_controllen = CONTROL_BYTES;
            senders[i].any.sa_family = AF_UNSPEC;
        }
    #ifdef __linux__
        if (!one_by_one) return recvmmsg(fd, many, MOST_AT_ONCE, MSG_DONTWAIT, NULL);
    #endif
        for (n = 0; n < MOST_AT_ONCE; n++) {
            ssize_t n_bytes = recvmsg(fd, &many[n].msg_hdr, MSG_DONTWAIT);
            if (n_bytes < 0) return n ? n : -1;
            many[n].msg_len = (unsigned)n_bytes;
        }
        return n;
    }
    static unsigned length_of(int nth) { return many[nth].msg_len; }

    /* Find who has sent a datagram: the bytes of an address and their number, 0 without one. */
    static int sender_of(int nth, const char** at) {
        if (senders[nth].any.sa_family == AF_INET) {
            *at = (const char*)&senders[nth].v4.sin_addr;
            return 4;
        }
        *at = (const char*)&senders[nth].v6.sin6_addr;
        return senders[nth].any.sa_family == AF_INET6 ? 16 : 0;
    }

    /* Find how many datagrams had been dropped when this one came; 0 if it does not tell. */
    static int dropped_before(int nth, uint32_t* dropped) {
    #ifdef __linux__
        struct msghdr* header = &many[nth].msg_hdr;
        for (struct cmsghdr* told = CMSG_FIRSTHDR(header); told; told = CMSG_NXTHDR(header, told))
            if (told->cmsg_level == SOL_SOCKET && told->cmsg_type == SO_RXQ_OVFL) {
                memcpy(dropped, CMSG_DATA(told), 4);
                return 1;
            }
    #endif
        return 0;
    }
    """
    int receive_many(int fd, char* room, size_t stride, size_t most_bytes, bint with_senders, bint one_by_one)
    unsigned length_of(int nth)
    int sender_of(int nth, const char** at)
    bint dropped_before(int nth, uint32_t* dropped)


cdef class Datagrams:
    def __cinit__(self, may_send=None):
        self.room = <char*>malloc(<size_t>MOST_DATAGRAMS * STRIDE_BYTES)
        if self.room == NULL:
            raise MemoryError("no memory for datagrams")
        self.may_send, self.known, self.dropped = may_send, {}, 0

    def __dealloc__(self):
        free(self.room)

    def receive(self, int fd, *, bint one_by_one=False):
        cdef const char* sender
        cdef uint32_t dropped
        cdef int i, n_bytes
        cdef int n = receive_many(fd, self.room, STRIDE_BYTES, DATAGRAM_BYTES, self.may_send is not None, one_by_one)
        self.n_taken = self.foreign = 0
        if n < 0:
            if errno != EAGAIN and errno != EINTR:
                PyErr_SetFromErrno(OSError)
            return False
        if n and dropped_before(n - 1, &dropped):
            self.dropped = dropped
        for i in range(n):
            if self.may_send is not None:
                n_bytes = sender_of(i, &sender)
                if not n_bytes or not self.is_known(sender, n_bytes):
                    self.foreign += 1
                    continue
            self.taken[self.n_taken].at = self.room + <size_t>i * STRIDE_BYTES
            self.taken[self.n_taken].n_bytes = length_of(i)
            self.n_taken += 1
        return n == MOST_DATAGRAMS

    cdef bint is_known(self, const char* address, int n_bytes) except -1:
        """Tell if an address may send. O(1)."""
        if n_bytes == self.n_last and memcmp(address, self.last_sender, n_bytes) == 0:
            return True
        who = PyBytes_FromStringAndSize(address, n_bytes)
        may_send = self.known.get(who)
        if may_send is None:
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            may_send = self.known[who] = bool(self.may_send(who))
        if may_send:
            memcpy(self.last_sender, address, n_bytes)
            self.n_last = n_bytes
        return may_send

    def __len__(self):
        return self.n_taken

    def __getitem__(self, Py_ssize_t place):
        if not 0 <= place < self.n_taken:
            raise IndexError("no such datagram")
        return PyBytes_FromStringAndSize(self.taken[place].at, self.taken[place].n_bytes)
