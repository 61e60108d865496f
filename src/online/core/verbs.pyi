"""The verb table. See ext/verbs.pyx."""

def register(
    usage: str,
    fewest: int,
    most: int,
    before_auth: bool = False,
    at_once: bool = False,
    while_loading: bool = False,
    while_subscribed: bool = False,
    asks: bool = False,
) -> None:
    """Add a verb that the host runs, with `fewest` to `most` arguments (-1: any number).

    `before_auth`: allowed before authentication. `at_once`: runs at once even inside MULTI. `while_loading`: allowed
    while the server reads from disk. `while_subscribed`: allowed in RESP2 to who is subscribed to channels.
    `asks`: is answered from the index.
    """

def rows() -> list[tuple[str, int, int, bool]]:
    """Return each verb as `(usage, fewest, most, before_auth)`, as in `("HIT user url [seen_ms [kind]]", 2, 4, False)`.

    `most` is -1 where any number of arguments will do.
    """
