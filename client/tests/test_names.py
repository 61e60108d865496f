"""Who is named, and what stands for nobody."""

from typing import Any
from uuid import UUID

import pytest

from online_client.names import named


class Lazy:
    """As lazy texts and users of frameworks are: an object with a text of its own."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


NOBODY = [
    None,
    False,
    True,
    0,
    "",
    " ",
    "0",
    "None",
    "null",
    "undefined",
    b"",
    b"None",
    Lazy(""),
    ("", "hidden"),
    (None, "x"),
]


@pytest.mark.parametrize("visitor", NOBODY, ids=str)
def test_what_stands_for_nobody(visitor: Any) -> None:
    assert named(visitor) is None


NAMED = [
    ("ada", ("ada", "member")),
    ("Null", ("Null", "member")),
    ("none", ("none", "member")),
    (b"ada", (b"ada", "member")),
    (17, (17, "member")),
    (Lazy("ada"), ("ada", "member")),
    (UUID(int=1), ("00000000-0000-0000-0000-000000000001", "member")),
    (("eve", "hidden"), ("eve", "hidden")),
    (["eve", "hidden"], ("eve", "hidden")),
    ((UUID(int=1), "staff"), ("00000000-0000-0000-0000-000000000001", "staff")),
]


@pytest.mark.parametrize(("visitor", "name"), NAMED, ids=str)
def test_names(visitor: Any, name: Any) -> None:
    assert named(visitor) == name


@pytest.mark.parametrize("visitor", [object(), {}, {"ada"}, ["ada"], ("a", "b", "c")], ids=type)
def test_what_has_no_name(visitor: Any) -> None:
    with pytest.raises(TypeError, match="a user should be text or an object with a text of its own"):
        named(visitor)
