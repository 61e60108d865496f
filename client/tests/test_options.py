"""What is wrong with an option is an error where it is given, and names the option: of all that programs make alike."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from online_client import AsyncClient, Client, Reporter
from online_client.asgi import OnlineMiddleware as Asgi
from online_client.bus import BusClient
from online_client.options import check_functions
from online_client.presence import AsyncPresence, Presence
from online_client.wsgi import OnlineMiddleware as Wsgi

Make = Callable[..., Any]

CLIENTS = (Client, AsyncClient, Reporter, Presence, AsyncPresence)


@pytest.mark.parametrize("make", CLIENTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("url", [5, 0, b"online://h", ["online://h"]])
def test_an_address_is_text(make: Make, url: object) -> None:
    with pytest.raises(TypeError, match="url takes str, such as "):
        make(url)


@pytest.mark.parametrize("make", [*CLIENTS, BusClient], ids=lambda make: make.__name__)
@pytest.mark.parametrize("timeout", [0, -1, -0.5, 1e300, math.inf, math.nan])
def test_a_time_limit_is_one_that_a_call_can_have(make: Make, timeout: float) -> None:
    with pytest.raises(ValueError, match=r"timeout takes seconds, more than 0 and at most \d+, or None.*, not "):
        make("online://127.0.0.1:1", timeout=timeout)


@pytest.mark.parametrize("make", [*CLIENTS, BusClient], ids=lambda make: make.__name__)
@pytest.mark.parametrize("timeout", ["1", True, [1]])
def test_a_time_limit_is_a_number(make: Make, timeout: object) -> None:
    with pytest.raises(TypeError, match="timeout takes seconds, more than 0"):
        make("online://127.0.0.1:1", timeout=timeout)


def test_a_bus_has_an_address_that_is_text() -> None:
    with pytest.raises(TypeError, match="url takes str"):
        Reporter(bus=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, 1, 0.001])
def test_good_time_limits_are_taken(timeout: float | None) -> None:
    assert Client("online://h", timeout=timeout).timeout == timeout


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("interval_s", "1", TypeError),
        ("interval_s", -1, ValueError),
        ("interval_s", math.nan, ValueError),
        ("exit_wait_s", None, TypeError),
        ("max_waiting", 0, ValueError),
        ("max_waiting_bytes", "64M", TypeError),
    ],
)
def test_a_reporter_names_its_bad_option(option: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{option} takes "):
        Reporter("online://127.0.0.1:1", **{option: value})


@pytest.mark.parametrize("middleware", [Wsgi, Asgi], ids=["wsgi", "asgi"])
@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("url", 5, "url takes str"),
        ("secret", 5, "secret takes str or bytes, not int"),
        ("secret", None, "secret takes str or bytes, not NoneType"),
        ("user", 5, "user takes a function, not 5"),
        ("user", None, "user takes a function, not None"),
        ("page_url", "/", "page_url takes a function, not '/'"),
        ("guest", "cookie", "guest takes a function, not 'cookie'"),
        ("is_page_view", True, "is_page_view takes a function, not True"),
    ],
)
def test_middleware_names_its_bad_option(middleware: Make, option: str, value: object, told: str) -> None:
    options = {"secret": "s", option: value}
    with pytest.raises(TypeError, match=told):
        middleware(lambda *_: [], **options)


def test_functions_may_be_left_out_where_that_is_said() -> None:
    check_functions(("guest",), guest=None, user=str)
