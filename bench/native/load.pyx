"""Sends hits and questions to a server over sockets, checks every answer, and takes the time. No GIL, no objects.

Its job: a closed loop (the next is sent when an answer has come) and an open one (it is sent when it is due). Not its
job: what is sent (generate.pyx), the server (processes.py), what the times mean.

Invariants:
1. An answer that is wrong, or does not come within PATIENCE_MS, ends the run with an error that shows it.
2. A latency counts from when the item was due, not from when it could be sent: a server that stalls pays for all that
   would have been sent meanwhile.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport INT64_MAX, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memmove

import contextlib
import os
import socket
from array import array
from collections import namedtuple

__all__ = ["Closed", "Opened", "closed_loop", "open_loop"]

cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <poll.h>
    #include <time.h>
    #include <sys/prctl.h>
    #include <sys/socket.h>
    """
    struct timespec:
        long tv_sec
        long tv_nsec
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN, POLLOUT
    int CLOCK_MONOTONIC, MSG_NOSIGNAL, MSG_DONTWAIT, PR_SET_TIMERSLACK
    int clock_gettime(int clock, timespec* now) nogil
    int ppoll(pollfd* fds, unsigned long n_fds, const timespec* timeout, void* mask) nogil
    int prctl(int option, unsigned long value) nogil
    ssize_t recv(int fd, void* at, size_t n_bytes, int flags) nogil
    ssize_t send(int fd, const void* at, size_t n_bytes, int flags) nogil

cdef enum:
    PATIENCE_MS = 20_000
    RECEIVE_BYTES = 256 * 1024
    SHOWN_BYTES = 60                                     # of an answer that is wrong
    MOST_LINES = 64

cdef enum Answer:
    SAME                                                 # the bytes that are expected
    BATCH                                                # what became of a batch: added up
    COUNT                                                # an integer
    PAGE                                                 # two counts, users newest first, a cursor

cdef enum Found:
    WRONG = -1
    PART = 0                                             # there is more to come
    WHOLE = 1

cdef enum Ended:
    WELL
    WITH_WRONG
    WITH_SILENCE
    WITH_CLOSE
    WITH_ERRNO
    TOO_LATE                                             # there are more questions than room for their times

cdef struct Cursor:
    const char* at
    const char* end

cdef struct Checked:
    # What the answers told, added up.
    const char* expected
    size_t expected_bytes
    int64_t became[3]                                    # hits accepted, ignored, refused
    int64_t users                                        # in all lists
    int64_t most_users                                   # allowed in a list

cdef struct Line:
    # A connection with a number of items to send, and to be answered in turn.
    int fd
    bint is_blocked                                      # the system takes no more at present
    const char** items                                   # items[n % n_items] is the n-th
    const size_t* sizes
    const Answer* answers
    int64_t n_items
    int64_t end                                          # the first number that is not sent
    int64_t step                                         # from one item of this line to the next
    int64_t to_send, to_answer                           # numbers
    size_t sent                                          # bytes of the item to_send
    int64_t window                                       # items that may wait for their answers
    double period_ns                                     # item n is due at n times this; 0: at once
    int64_t* latencies_ns                                # by number
    char* room
    size_t room_bytes, begin, filled                     # what was received and is not used up
    Checked* checked


# Answers. Each takes one from a cursor, or leaves it where it is.

cdef Found take_number(Cursor* c, char head, int64_t* number) noexcept nogil:
    """Take `head`, a decimal number and CR LF."""
    cdef const char* end = <const char*>memchr(c.at, 10, c.end - c.at)
    cdef const char* at = c.at
    cdef bint is_negative
    if end == NULL:
        return PART
    if at[0] != head or end - at < 3 or (end - 1)[0] != 13:
        return WRONG
    at += 1
    is_negative = at[0] == 45
    at += is_negative
    number[0] = 0
    while at < end - 1:
        if not 48 <= at[0] <= 57:
            return WRONG
        number[0] = number[0] * 10 + (at[0] - 48)
        at += 1
    if is_negative:
        number[0] = -number[0]
    c.at = end + 1
    return WHOLE


cdef Found take_text(Cursor* c) noexcept nogil:
    """Take a bulk string, or nil."""
    cdef int64_t n_bytes = 0
    cdef Found found = take_number(c, 36, &n_bytes)
    if found != WHOLE or n_bytes == -1:
        return found
    if c.end - c.at < n_bytes + 2:
        return PART
    c.at += n_bytes + 2
    return WHOLE


cdef Found take_page(Cursor* c, Checked* checked) noexcept nogil:
    """Take `[online, here, [[user, seen_ms, kind], ...], cursor]`."""
    cdef int64_t n = 0, online = 0, here = 0, n_users = 0, seen_ms = 0, last_ms = INT64_MAX, left
    cdef Found found = take_number(c, 42, &n)
    if found == WHOLE:
        found = take_number(c, 58, &online) if n == 4 else WRONG
    if found == WHOLE:
        found = take_number(c, 58, &here)
    if found == WHOLE:
        found = take_number(c, 42, &n_users)
    if found != WHOLE:
        return found
    if n_users > checked.most_users or n_users > here or here > online:
        return WRONG
    left = n_users
    while left:
        found = take_number(c, 42, &n)
        if found == WHOLE:
            found = take_text(c) if n == 3 else WRONG
        if found == WHOLE:
            found = take_number(c, 58, &seen_ms)
        if found == WHOLE:
            found = take_text(c) if seen_ms <= last_ms else WRONG
        if found != WHOLE:
            return found
        last_ms = seen_ms
        left -= 1
    found = take_text(c)
    if found == WHOLE:
        checked.users += n_users
    return found


cdef Found take_packed(Cursor* c, int64_t* number) noexcept nogil:
    """Take an unsigned MessagePack integer."""
    cdef uint8_t head
    cdef int n_bytes
    if c.at == c.end:
        return PART
    head = <uint8_t>c.at[0]
    number[0] = head
    if head >= 0x80:
        if not 0xCC <= head <= 0xCF:
            return WRONG
        n_bytes = 1 << (head - 0xCC)
        if c.end - c.at <= n_bytes:
            return PART
        number[0] = 0
        for _ in range(n_bytes):
            c.at += 1
            number[0] = number[0] << 8 | <uint8_t>c.at[0]
    c.at += 1
    return WHOLE


cdef Found take_byte(Cursor* c, uint8_t wanted) noexcept nogil:
    if c.at == c.end:
        return PART
    if <uint8_t>c.at[0] != wanted:
        return WRONG
    c.at += 1
    return WHOLE


cdef Found take_batch(Cursor* c, Checked* checked) noexcept nogil:
    """Take `[1, msgid, nil, [accepted, ignored, refused, nil]]`."""
    cdef int64_t msgid = 0
    cdef int64_t became[3]
    cdef int i = 0
    cdef Found found = take_byte(c, 0x94)
    if found == WHOLE:
        found = take_byte(c, 1)
    if found == WHOLE:
        found = take_packed(c, &msgid)
    if found == WHOLE:
        found = take_byte(c, 0xC0)
    if found == WHOLE:
        found = take_byte(c, 0x94)
    while found == WHOLE and i < 3:
        found = take_packed(c, &became[i])
        i += 1
    if found == WHOLE:
        found = take_byte(c, 0xC0)
    if found == WHOLE:
        for i in range(3):
            checked.became[i] += became[i]
    return found


cdef Found take_same(Cursor* c, const Checked* checked) noexcept nogil:
    cdef size_t left = c.end - c.at
    if memcmp(c.at, checked.expected, min(left, checked.expected_bytes)):
        return WRONG
    if left < checked.expected_bytes:
        return PART
    c.at += checked.expected_bytes
    return WHOLE


cdef Found take_answer(Cursor* c, Answer answer, Checked* checked) noexcept nogil:
    cdef const char* begin = c.at
    cdef int64_t number = 0
    cdef Found found
    if answer == SAME:
        found = take_same(c, checked)
    elif answer == BATCH:
        found = take_batch(c, checked)
    elif answer == COUNT:
        found = take_number(c, 58, &number)
    else:
        found = take_page(c, checked)
    if found != WHOLE:
        c.at = begin
    return found


# One connection

cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1_000_000_000 + now.tv_nsec


cdef inline int64_t due_ns(const Line* line, int64_t number) noexcept nogil:
    return <int64_t>(<double>number * line.period_ns)


cdef inline bint may_send(const Line* line) noexcept nogil:
    return line.to_send < line.end and line.to_send - line.to_answer < line.window * line.step


cdef Ended line_send(Line* line, int64_t at_ns) noexcept nogil:
    """Send what is due, as far as the system takes it."""
    cdef ssize_t n
    cdef int64_t item
    line.is_blocked = False
    while may_send(line) and due_ns(line, line.to_send) <= at_ns:
        item = line.to_send % line.n_items
        n = send(
            line.fd, line.items[item] + line.sent, line.sizes[item] - line.sent, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n < 0:
            if errno == EAGAIN:
                line.is_blocked = True
                return WELL
            return WITH_ERRNO
        line.sent += n
        if line.sent == line.sizes[item]:
            line.sent = 0
            line.to_send += line.step
    return WELL


cdef Ended line_receive(Line* line, int64_t began_ns) noexcept nogil:
    """Take the answers that have come, with the time of each."""
    cdef Cursor c
    cdef ssize_t n
    cdef int64_t at_ns
    cdef Found found = WHOLE
    if line.begin:
        memmove(line.room, line.room + line.begin, line.filled - line.begin)
        line.filled -= line.begin
        line.begin = 0
    n = recv(line.fd, line.room + line.filled, line.room_bytes - line.filled, MSG_DONTWAIT)
    if n == 0:
        return WITH_CLOSE
    if n < 0:
        return WELL if errno == EAGAIN or errno == EINTR else WITH_ERRNO
    line.filled += n
    at_ns = now_ns() - began_ns
    c.at, c.end = line.room, line.room + line.filled
    while c.at < c.end:
        if line.to_answer < line.to_send:
            found = take_answer(&c, line.answers[line.to_answer % line.n_items], line.checked)
        else:
            found = PART if line.sent else WRONG         # wrong where nothing was asked
        if found != WHOLE:
            break
        if line.latencies_ns != NULL:
            line.latencies_ns[line.to_answer] = at_ns - due_ns(line, line.to_answer)
        line.to_answer += line.step
    line.begin = c.at - line.room
    return WITH_WRONG if found == WRONG else WELL


cdef Ended run(Line* lines, int n_lines, int64_t began_ns, int* failed) noexcept nogil:
    """Send and receive on all lines until the first has got all its answers; then wait for what others have asked."""
    cdef pollfd fds[MOST_LINES]
    cdef timespec timeout
    cdef Ended ended = WELL
    cdef int64_t at_ns, next_ns, quiet_since_ns = 0
    cdef int i, n_ready
    cdef bint is_over = False, is_waiting = True
    while is_waiting:
        at_ns = now_ns() - began_ns
        next_ns = at_ns + <int64_t>PATIENCE_MS * 1_000_000
        if not is_over and lines[0].to_answer >= lines[0].end:
            is_over = True
            for i in range(1, n_lines):                  # what has been begun is sent to its end
                if lines[i].to_send < lines[i].end:
                    lines[i].end = lines[i].to_send + (1 if lines[i].sent else 0)
        is_waiting = not is_over
        for i in range(n_lines):
            failed[0] = i
            ended = line_send(&lines[i], at_ns)
            if ended != WELL:
                return ended
            if not is_over and i and lines[i].to_send >= lines[i].end:
                return TOO_LATE
            if may_send(&lines[i]) and not lines[i].is_blocked:
                next_ns = min(next_ns, due_ns(&lines[i], lines[i].to_send))
            is_waiting |= lines[i].to_answer < lines[i].to_send or lines[i].sent > 0
            fds[i].fd = lines[i].fd
            fds[i].events = POLLIN | (POLLOUT if lines[i].is_blocked else 0)
        if not is_waiting:
            break
        at_ns = now_ns() - began_ns
        next_ns = max(next_ns - at_ns, 0)
        timeout.tv_sec, timeout.tv_nsec = next_ns // 1_000_000_000, next_ns % 1_000_000_000
        n_ready = ppoll(fds, n_lines, &timeout, NULL)
        if n_ready < 0 and errno != EINTR:
            return WITH_ERRNO
        if n_ready > 0:
            quiet_since_ns = at_ns
        elif at_ns - quiet_since_ns > <int64_t>PATIENCE_MS * 1_000_000:
            return WITH_SILENCE
        for i in range(n_lines):
            if n_ready > 0 and fds[i].revents & ~POLLOUT:
                failed[0] = i
                ended = line_receive(&lines[i], began_ns)
                if ended != WELL:
                    return ended
    return WELL


# For Python

cdef class Load:
    """Owns the lines of a run, and what they point to."""

    cdef Line lines[MOST_LINES]
    cdef int n_lines
    cdef Checked checked
    cdef list kept                                       # bytes that lines point into

    def __cinit__(self):
        self.kept = []

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_lines):
            free(self.lines[i].items)
            free(<void*>self.lines[i].sizes)
            free(<void*>self.lines[i].answers)
            free(self.lines[i].room)

    cdef Line* add(self, int fd, list items, list answers) except NULL:
        cdef Line* line = &self.lines[self.n_lines]
        cdef size_t* sizes
        cdef Answer* kinds
        cdef int64_t i
        if self.n_lines == MOST_LINES or not items:
            raise ValueError(f"a load takes at most {MOST_LINES} connections, each with something to send")
        self.kept.append(items)
        self.n_lines += 1
        line.fd = fd
        line.n_items = len(items)
        line.items = <const char**>malloc(len(items) * sizeof(char*))
        line.sizes = sizes = <size_t*>malloc(len(items) * sizeof(size_t))
        line.answers = kinds = <Answer*>malloc(len(items) * sizeof(Answer))
        line.room = <char*>malloc(RECEIVE_BYTES)
        if line.items == NULL or sizes == NULL or kinds == NULL or line.room == NULL:
            raise MemoryError
        for i in range(line.n_items):
            line.items[i] = items[i]
            sizes[i] = len(items[i])
            kinds[i] = <Answer><int>answers[i % len(answers)]
        line.room_bytes = RECEIVE_BYTES
        line.step = 1
        line.window = INT64_MAX // MOST_LINES
        line.checked = &self.checked
        return line

    cdef double go(self) except -1:
        """Run to the end; return the seconds it took."""
        cdef int failed = 0
        cdef Ended ended
        cdef int64_t began_ns
        cdef Line* line
        with nogil:
            prctl(PR_SET_TIMERSLACK, 1)                  # wake up when something is due, not 50 us later
            began_ns = now_ns()
            ended = run(self.lines, self.n_lines, began_ns, &failed)
            began_ns = now_ns() - began_ns
        line = &self.lines[failed]
        if ended == WITH_ERRNO:
            raise OSError(errno, os.strerror(errno))
        if ended == WITH_CLOSE:
            raise ConnectionError(f"the server closed connection {failed} before answer {line.to_answer}")
        if ended == WITH_SILENCE:
            raise TimeoutError(f"no answers for {PATIENCE_MS // 1000} seconds")
        if ended == TOO_LATE:
            raise TimeoutError("the hits took longer than there were questions")
        if ended == WITH_WRONG:
            shown = line.room[line.begin:min(line.begin + SHOWN_BYTES, line.filled)]
            raise ValueError(f"answer {line.to_answer} on connection {failed} is wrong: {shown!r}")
        return <double>began_ns / 1e9


#: What an answer is, by name: see open_loop and closed_loop.
ANSWERS = {"same": SAME, "batch": BATCH, "count": COUNT, "page": PAGE}

Became = namedtuple("Became", "accepted ignored refused")
Closed = namedtuple("Closed", "took_s became users")
Opened = namedtuple("Opened", "took_s became users batch_ns question_ns")


def connected(int port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


cdef became(Load load):
    return Became(load.checked.became[0], load.checked.became[1], load.checked.became[2])


def closed_loop(int port, list items not None, str answer not None, *, bytes expected=b"", int64_t window=8,
                int64_t most_users=30):
    cdef Load load = Load()
    cdef Line* line
    load.checked.expected, load.checked.expected_bytes = expected, len(expected)
    load.checked.most_users = most_users
    if answer == "same" and not 0 < len(expected) <= RECEIVE_BYTES // 2:
        raise ValueError(f"an expected answer takes 1 to {RECEIVE_BYTES // 2:,} bytes")
    with connected(port) as connection:
        line = load.add(connection.fileno(), items, [ANSWERS[answer]])
        line.end = line.n_items
        line.window = window
        took_s = load.go()
    return Closed(took_s, became(load), load.checked.users)


def open_loop(int port, list frames not None, list questions not None, *, double frames_a_second,
              double questions_a_second, int connections=4, int64_t window=0, int64_t most_users=30,
              double most_s=120):
    cdef Load load = Load()
    cdef Line* line
    cdef int i
    cdef int64_t[::1] batch_ns = array("q", bytes(8 * len(frames)))
    cdef int64_t most_questions = <int64_t>(most_s * questions_a_second)
    cdef int64_t[::1] question_ns = array("q", bytes(8 * most_questions))
    answers = [COUNT if question.startswith(b"COUNT") else PAGE for question in questions]
    load.checked.most_users = most_users
    with contextlib.ExitStack() as stack:
        line = load.add(stack.enter_context(connected(port)).fileno(), frames, [BATCH])
        line.end = line.n_items
        line.latencies_ns = &batch_ns[0]
        line.period_ns = 1e9 / frames_a_second if frames_a_second else 0
        if window:
            line.window = window
        for i in range(connections):
            line = load.add(stack.enter_context(connected(port)).fileno(), questions, answers)
            line.to_send = line.to_answer = i
            line.step = connections
            line.end = most_questions
            line.latencies_ns = &question_ns[0]
            line.period_ns = 1e9 / questions_a_second
        took_s = load.go()
    answered = [question_ns[nth] for nth in range(most_questions) if is_answered(load, nth, connections)]
    return Opened(took_s, became(load), load.checked.users, list(batch_ns), answered)


cdef bint is_answered(Load load, int64_t nth, int connections):
    return nth < load.lines[1 + nth % connections].to_answer
