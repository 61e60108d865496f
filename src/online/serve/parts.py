"""What runs beside the connections of a server: other ways in for hits, and what is kept or told of them.

The seam between a server and all that it need not know by name. `cli/serve.py` puts them together.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

from online.serve.verb import Lines


class Part:
    """A part that does nothing, to be given some of what follows.

    A server opens its parts before it listens, in the order in which they were attached. While it serves, it lets each
    load, one after the other, and then runs the task of each. It closes them in the opposite order, after the last
    connection has ended.
    """

    name = ""  #: for what is logged

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be open inside the context. Raises OnlineError.

        An exception that comes out of the context says that the server has failed, or was cancelled.
        """
        yield

    async def load(self) -> None:
        """Do what takes long and must come before the tasks of all parts. If this fails, the server ends."""

    async def run(self) -> None:
        """Work while the server serves. If this fails, the server ends; if it returns, there was no more to do."""

    async def serve(self) -> None:
        """Serve connections of its own, from when the server listens, even while parts load, until `end` is called.

        What it still does then is cancelled when the time for last answers is over.
        """

    def end(self) -> None:
        """Accept nobody more, and let each connection end as soon as it has its answers."""

    def reload(self) -> None:
        """Read its files again. Raises ConfigError, and has changed nothing then."""

    def told(self) -> Iterator[str]:
        """Yield what the log says of it once it is open, such as where it listens."""
        yield from ()

    def info(self) -> Mapping[str, Lines]:
        """Return the sections that it adds to INFO, by name."""
        return {}
