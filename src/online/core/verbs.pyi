"""The verb table. See ext/verbs.pyx."""

def register(usage: str, fewest: int, most: int, before_auth: bool = False, at_once: bool = False) -> None:
    """Add a verb that the host runs, with `fewest` to `most` arguments (-1: any number).

    `before_auth`: allowed before authentication. `at_once`: runs at once even inside MULTI.
    """

def usages() -> dict[str, str]:
    """Return the usage of each verb by name: `{"HIT": "HIT user url [seen_ms [kind]]", ...}`."""
