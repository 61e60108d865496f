"""The states of channels, of all partitions: what a channel asks, and the reply as a state of it.

Not its job: to ask (gateway), and who is told (serve/push). A state is, byte for byte, what a server with all users
writes (ext/states.pyx), but for the cursor of a page: it goes on at gateways.
"""

import json
from concurrent.futures import Future

import msgpack

from online.core.wire import Packed
from online.errors import OnlineError, PartialError
from online.http.questions import ANSWERS

#: What the kinds of channels ask. PAGE lists 30 users and TOP 10 pages, as states do, if they are not told how many.
_ASKED = {b"count": "COUNT", b"page": "PAGE", b"section": "SECTION", b"top": "TOP", b"user": "SEEN"}


def question(name: bytes) -> tuple[str, list[bytes]]:
    """Return the verb and the arguments that a channel asks."""
    kind, colon, of = name.partition(b":")
    return _ASKED[kind], [of] if colon else []


def state(verb: str, args: list[bytes], reply: Future[object]) -> bytes:
    """Return a reply that has come as a JSON object without its last brace; an error has `code` and `detail`."""
    error = reply.exception()
    if error is None:
        try:
            result = reply.result()
            shaped = ANSWERS[verb][0](msgpack.unpackb(result) if isinstance(result, Packed) else result, args)
            return json.dumps(shaped, ensure_ascii=False, separators=(",", ":"))[:-1].encode()
        except (ValueError, TypeError, LookupError) as problem:
            error = PartialError(f"an answer of a partition makes no sense: {problem!r}")
    return refused(error)


def refused(error: BaseException) -> bytes:
    """Return the state that says why there is none."""
    code = error.code if isinstance(error, OnlineError) else OnlineError.code
    return json.dumps({"code": code, "detail": str(error)})[:-1].encode()
