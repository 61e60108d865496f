"""Which signals stop a command cleanly, and which it ignores. No signal stops it without saving its work."""

import signal
from collections.abc import Callable

#: Signals that stop a command. All but SIGTERM stay ignored if they are ignored at the start, as under nohup.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Signals for other programs. By default they would kill this one.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

#: For `--help`.
TOLD = "SIGTERM, SIGINT, SIGHUP and SIGQUIT stop it cleanly; SIGUSR1, SIGUSR2 and SIGALRM are ignored."


def end_by(stop: Callable[[], None]) -> None:
    """Call `stop` on each signal in ENDING. Ignore the signals in IGNORED."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in ENDING:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop())
