"""Names of guests and bots, as `online_client.guests` makes them. See ext/guests.pyx."""

from typing import final

def sha256(data: bytes, *, in_c: bool = False) -> bytes:
    """Return the SHA-256 of `data`, 32 bytes. O(length). `in_c`: without the processor's instructions."""

@final
class GuestNames:
    """Names guests with a key."""

    def __init__(self, key: bytes) -> None: ...
    def guest(self, address: bytes, agent: bytes) -> bytes:
        """Return the name of a guest, as `online_client.guests.guest_name`. `agent` has at most 512 bytes."""

    def bot(self, known_by: bytes, agent: bytes) -> bytes:
        """Return the name of a bot, as `online_client.guests.bot_name`. `agent` has at most 512 bytes."""
