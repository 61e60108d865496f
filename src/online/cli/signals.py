"""Which signals end a command cleanly, and which it ignores: none ends it without its work being saved."""

import signal
from collections.abc import Callable

#: Ask for an end. Those but SIGTERM stay ignored where they are ignored at the start, as under nohup.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Mean something to other programs, and would end one that does not know them.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

#: For `--help`.
TOLD = "SIGTERM, SIGINT, SIGHUP and SIGQUIT end it cleanly; SIGUSR1, SIGUSR2 and SIGALRM are ignored."


def end_by(stop: Callable[[], None]) -> None:
    """Call `stop` when a signal asks for an end, however often; ignore the others."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in ENDING:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop())
