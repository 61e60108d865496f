"""What the peers and the reactor ask of Linux: sockets, epoll, clocks. Inline C.

Its job: one system call each. Not its job: when (peers, reactor).
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport (
    ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP, EPERM,
    EPROTO, errno,
)
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int n_events, int timeout_ms)

cdef extern from "<sys/socket.h>" nogil:
    struct linger:
        int l_onoff
        int l_linger
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_WR, SOL_SOCKET, SO_LINGER
    int accept4(int fd, void* address, void* n_bytes, int flags)
    ssize_t recv(int fd, void* at, size_t n_bytes, int flags)
    ssize_t send_bytes "send"(int fd, const void* at, size_t n_bytes, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int n_bytes)

cdef extern from "<sys/ioctl.h>" nogil:
    int FIONREAD
    int ioctl(int fd, unsigned long request, int* n_bytes)

cdef extern from "<linux/sockios.h>" nogil:
    int SIOCOUTQ

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID
    int clock_gettime(int clock, timespec* now)

cdef inline int raise_errno() except -1:
    """Raise an OSError for `errno`."""
    PyErr_SetFromErrno(OSError)
    return -1

cdef inline int watch(int epoll, int op, int fd, uint32_t events, uint64_t data) except -1:
    """Begin, change or end what epoll tells of a descriptor. Raises OSError."""
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = events
    event.data.u64 = data
    return raise_errno() if epoll_ctl(epoll, op, fd, &event) < 0 else 0

cdef inline bint failed_before_accept() noexcept:
    """Whether accept(2) failed because of a connection that is no more, or of the network (see its manual page)."""
    return errno in (
        EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
        ENETUNREACH,
    )

cdef inline int unsent_bytes(int fd) noexcept:
    """What the kernel was given to send and has not arrived."""
    cdef int n_bytes = 0
    ioctl(fd, SIOCOUTQ, &n_bytes)
    return n_bytes

cdef inline int unread_bytes(int fd) noexcept:
    """What has come and was not read."""
    cdef int n_bytes = 0
    ioctl(fd, FIONREAD, &n_bytes)
    return n_bytes

cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec

cdef inline int64_t processor_ns() noexcept nogil:
    """What this thread has used of a processor: less than the time that went by, if the system ran others."""
    cdef timespec used
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used)
    return <int64_t>used.tv_sec * 1_000_000_000 + used.tv_nsec
