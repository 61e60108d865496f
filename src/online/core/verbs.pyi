"""The verb table. See ext/verbs.pyx."""

def register(
    usage: str,
    fewest: int,
    most: int,
    before_auth: bool = False,
    at_once: bool = False,
    while_loading: bool = False,
) -> None:
    """Add a verb that the host carries out, with `fewest` to `most` arguments (-1: any number).

    `before_auth`: it may come before the token. `at_once`: it is carried out also inside of MULTI. `while_loading`:
    also while the server reads from disk.
    """

def usages() -> dict[str, str]:
    """Return how each verb is used, by its name: `{"HIT": "HIT user url [seen_ms [kind]]", ...}`."""
