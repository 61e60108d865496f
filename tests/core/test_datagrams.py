"""Datagrams received together: the same by one call and by many, who may send, and what stays until the next call."""

import random
import socket
from contextlib import contextmanager

import pytest

from online.core.datagrams import Datagrams
from online.core.usual import UsualLines

LONGEST_BYTES = 65_507  #: of UDP


@contextmanager
def sockets(address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiving,
        socket.socket(family, socket.SOCK_DGRAM) as sending,
    ):
        receiving.bind((address, 0))
        receiving.setblocking(False)
        sending.connect(receiving.getsockname())
        yield receiving, sending


@pytest.mark.parametrize("one_by_one", [False, True])
def test_what_was_sent_is_received_in_order(one_by_one):
    draw = random.Random(1)
    sent = [draw.randbytes(n) for n in (0, 1, 300, 1_472, LONGEST_BYTES, 300, 0)]
    with sockets() as (receiving, sending):
        datagrams = Datagrams()
        assert not datagrams.receive(receiving.fileno(), one_by_one=one_by_one)
        assert list(datagrams) == []
        for each in sent:
            sending.send(each)
        assert not datagrams.receive(receiving.fileno(), one_by_one=one_by_one)
        assert list(datagrams) == sent
        assert (datagrams.foreign, datagrams.dropped) == (0, 0)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_more_than_fit_are_left_for_the_next_time(one_by_one):
    with sockets() as (receiving, sending):
        datagrams = Datagrams()
        for n in range(70):
            sending.send(b"%d" % n)
        assert datagrams.receive(receiving.fileno(), one_by_one=one_by_one)
        assert list(datagrams) == [b"%d" % n for n in range(64)]
        assert not datagrams.receive(receiving.fileno(), one_by_one=one_by_one)
        assert list(datagrams) == [b"%d" % n for n in range(64, 70)]


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", b"\x7f\0\0\1"), ("::1", bytes(15) + b"\1")])
def test_who_may_not_send_is_left_out_and_asked_for_once(host, address):
    asked = []

    def may_send(sender):
        asked.append(sender)
        return len(asked) == 1

    with sockets(host) as (receiving, sending):
        is_taken, is_foreign = Datagrams(may_send), Datagrams(may_send)
        for datagrams in (is_taken, is_foreign):
            for each in (b"a", b"b"):
                sending.send(each)
            datagrams.receive(receiving.fileno())
        assert asked == [address, address]
        assert (list(is_taken), is_taken.foreign) == ([b"a", b"b"], 0)
        assert (list(is_foreign), is_foreign.foreign) == ([], 2)


def test_a_sender_without_an_address_is_not_known():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        other.send(b"a")
        datagrams = Datagrams(lambda sender: True)
        datagrams.receive(one.fileno())
        assert (list(datagrams), datagrams.foreign) == ([], 1)


def test_errors_of_the_system_are_raised_and_leave_nothing():
    with sockets() as (receiving, sending):
        sending.send(b"a")
        datagrams = Datagrams()
        datagrams.receive(receiving.fileno())
        number = receiving.detach()
        socket.close(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            datagrams.receive(number)
        assert len(datagrams) == 0


def test_only_what_is_held_can_be_packed():
    lines = UsualLines(
        str, str, str, bool, tuple, records=None, message_of=str, bad_ways=(), bad_urls=(), nobody=(), key=None,
        trusts_proxies=False, with_host=False, ignores_queries=False, guests_only=False,
    )  # fmt: skip
    datagrams = Datagrams()
    assert lines.pack_received(datagrams, 0, 0) == (b"", 0, 0, [], [])
    for begin, end in ((0, 1), (-1, 0), (1, 0)):
        with pytest.raises(IndexError):
            lines.pack_received(datagrams, begin, end)
