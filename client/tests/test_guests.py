"""The names of guests and bots."""

import pytest

from online_client.agents import MAX_CHARACTERS
from online_client.guests import KEY_BYTES, bot_name, guest_key, guest_name, visitor_name

KEY = guest_key("secret")


def test_a_secret_makes_a_key_whether_text_or_bytes() -> None:
    assert guest_key(b"secret") == KEY != guest_key("another")
    assert len(KEY) == KEY_BYTES


def test_names_differ_by_what_they_are_made_of() -> None:
    names = {
        guest_name(KEY, b"192.0.2.1", b"a"),
        guest_name(KEY, b"192.0.2.2", b"a"),
        guest_name(KEY, b"192.0.2.1", b"b"),
        guest_name(guest_key("another"), b"192.0.2.1", b"a"),
        visitor_name(KEY, b"192.0.2.1 a"),
        bot_name(KEY, b"192.0.2.1", b"a"),
    }
    assert len({name.partition(b"-")[2] for name in names}) == 6


@pytest.mark.parametrize("name", [guest_name, bot_name])
def test_only_the_beginning_of_an_agent_counts(name: object) -> None:
    assert callable(name)
    assert name(KEY, b"::1", b"a" * MAX_CHARACTERS) == name(KEY, b"::1", b"a" * (MAX_CHARACTERS + 1))
