"""Usual JSON objects of access logs. For C code only; see ext/jsonfields.pyx."""

from collections.abc import Sequence

class JsonShapes:
    """Which keys of objects are which fields. Presets that do not fit here make no object usual."""

    def __init__(self, presets: Sequence[tuple[list[str], str, list[str]]], *, is_one: bool) -> None:
        """`presets`: for each the paths of the fields of a record, as `online.logs.jsonlines.JsonFields` has them up
        to the kind; the key of the request line; and the paths of all keys that may name a purpose.

        `is_one`: all objects have the first preset. Otherwise there are four, our own, nginx', Caddy's and Traefik's,
        and each object is matched to one by its keys.
        """
