"""Checks of what programs give as options: what is wrong is an error where it is given, and says the option.

Not its job: what an option means. Values are not shown where they may be secret.
"""

from collections.abc import Iterable
from threading import TIMEOUT_MAX


def check_url(url: object) -> None:
    """Raise TypeError for an address that is no text; None stands for the default."""
    if url is not None and not isinstance(url, str):
        raise TypeError(f"url takes str, such as 'online://127.0.0.1:8989/default', not {_shown(url)}")


def check_timeout(timeout: object) -> None:
    """Raise TypeError or ValueError for a time that no call can have."""
    takes = f"timeout takes seconds, more than 0 and at most {TIMEOUT_MAX:.0f}, or None for no limit"
    if timeout is None:
        return
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"{takes}, not {_shown(timeout)}")
    if not 0 < timeout <= TIMEOUT_MAX:
        raise ValueError(f"{takes}, not {timeout}")


def check_least(least: float, **given: object) -> None:
    """Raise TypeError or ValueError for options that are no numbers, or less than `least`."""
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} takes a number, not {_shown(value)}")
        if not value >= least:
            raise ValueError(f"{name} takes at least {least:g}, not {value}")


def check_functions(may_be_none: Iterable[str] = (), **given: object) -> None:
    """Raise TypeError for options that should be functions; those named may be None."""
    for name, value in given.items():
        if not callable(value) and not (value is None and name in may_be_none):
            raise TypeError(f"{name} takes a function, not {_shown(value)}")


def check_secret(secret: object) -> None:
    """Raise TypeError for a secret that is no text."""
    if not isinstance(secret, str | bytes):
        raise TypeError(f"secret takes str or bytes, not {type(secret).__name__}")


def _shown(value: object) -> str:
    return f"{value!r:.80}"
