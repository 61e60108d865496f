"""Lists in bodies are the same piece by piece as at once, and no piece is long."""

import contextlib
import json

import msgpack
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from online.http import bodies
from online.http.bodies import NoList, UnknownField, json_items, msgpack_items

HOSTILE = st.text(st.sampled_from('"\\,[]{} \n:aé'), max_size=8)
ITEMS = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
INDENTS = st.sampled_from([None, 0, 1])


@contextlib.contextmanager
def short_pieces():
    """Pieces of a few bytes, so that cuts come everywhere."""
    before, bodies.PIECE_BYTES = bodies.PIECE_BYTES, 4
    try:
        yield
    finally:
        bodies.PIECE_BYTES = before


def in_short_pieces(read, body):
    with short_pieces():
        return all_of(read(body))


def all_of(pieces):
    return [item for piece in pieces for item in piece]


@given(items=st.lists(ITEMS, max_size=12), indent=INDENTS, is_object=st.booleans())
def test_json_is_the_same_in_pieces(items, indent, is_object):
    body = json.dumps({"hits": items} if is_object else items, indent=indent, ensure_ascii=False).encode()
    assert in_short_pieces(json_items, body) == items


@given(st.text(st.sampled_from('[]{},":1 \\ht')).map(str.encode))
@example(b"[[1,2,3],]")
@example(b"[,[1,2,3]]")
@example(b"[[1,2,3],,[4]]")
@example(b"[[1,2,3] [4]]")
@example(b"[         ]")
@example(b'{"hits":[[1,2,3]],"hits":[[4]]}')
@example(b'{"hits":[[1,2,3]]')
@example(b'["a],[", "b]')
def test_what_is_read_in_pieces_would_be_read_at_once(body):
    try:
        items = in_short_pieces(json_items, body)
    except (ValueError, NoList):
        return
    whole = orjson.loads(body)
    assert items == (whole["hits"] if isinstance(whole, dict) else whole)


@pytest.mark.parametrize(
    "body", [b"[[1,2],]", b"[,[1,2]]", b"[[1,2],,[4]]", b"[[1,2] [4]]", b'["a],[", "b]', b"", b"[[1,2],[3,4"]
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(ValueError, match=r"column|stands beside"):
        in_short_pieces(json_items, body)


@given(items=st.lists(ITEMS, max_size=9), others=st.lists(ITEMS, max_size=9), indent=INDENTS)
def test_another_list_is_named_in_pieces_as_at_once(items, others, indent):
    for body in ({"hits": items, "hots": others}, {"hots": others, "hits": items}):
        with pytest.raises(UnknownField, match="hots"):
            in_short_pieces(json_items, json.dumps(body, indent=indent).encode())


@given(items=st.lists(ITEMS, max_size=20), is_object=st.booleans())
def test_messagepack_is_the_same_in_pieces(items, is_object):
    body = msgpack.packb({"hits": items} if is_object else items)
    assert in_short_pieces(msgpack_items, body) == items


@given(st.binary(max_size=40))
@example(b"")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x81\xa4hits")
@example(b"\x92\x01\x02\x03")
def test_messagepack_that_is_read_in_pieces_would_be_read_at_once(body):
    try:
        items = in_short_pieces(msgpack_items, body)
    except (ValueError, msgpack.UnpackException, NoList):
        return
    whole = msgpack.unpackb(body, raw=False, unicode_errors="surrogateescape", strict_map_key=True)
    assert items == (whole["hits"] if isinstance(whole, dict) else whole)


@pytest.mark.parametrize(
    "write", [orjson.dumps, lambda items: json.dumps(items, indent=2).encode()], ids=["dense", "wide"]
)
@pytest.mark.parametrize(
    "hit", [["ada", "/"], {"user": "a],[b", "url": '/"},{"' * 9}, 5], ids=["short", "hostile", "none"]
)
def test_no_piece_of_a_large_body_is_long(monkeypatch, write, hit):
    lengths = []
    loads = orjson.loads
    monkeypatch.setattr(orjson, "loads", lambda text: lengths.append(len(text)) or loads(text))
    items = [hit] * (300_000 // len(write(hit)))
    assert all_of(json_items(write(items))) == items
    assert max(lengths) <= 8 * bodies.PIECE_BYTES
    assert sum(lengths) <= 6_000_000


def test_an_item_that_is_longer_than_any_hit_is_not_read_to_its_end(monkeypatch):
    lengths = []
    loads = orjson.loads
    monkeypatch.setattr(orjson, "loads", lambda text: lengths.append(len(text)) or loads(text))
    with pytest.raises(ValueError, match="behind byte 1"):
        all_of(json_items(orjson.dumps([[[]] * 300_000])))
    assert max(lengths) <= 4 * bodies.MOST_ITEM_BYTES


def test_pieces_of_messagepack_are_short():
    pieces = list(msgpack_items(msgpack.packb([["ada", "/forum/1"]] * 50_000)))
    assert max(map(len, pieces)) <= bodies.PIECE_BYTES // len(msgpack.packb(["ada", "/forum/1"])) + 1
