"""What is asked of a disk, in one place: so that tests can let it fail, as real ones do.

Not its job: which files there are (folder). The journal writes to the descriptor that `create` gave, by itself.
Every call raises OSError.
"""

import os
from pathlib import Path


class Disk:
    """The system's."""

    def create(self, path: Path) -> int:
        """Open a file that is not there yet for writing, for its owner alone."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of it."""
        with memoryview(data) as rest:
            done = 0
            while done < len(rest):
                done += os.write(fd, rest[done:])

    def sync(self, fd: int) -> None:
        """Wait until what was written is on the disk. Others run meanwhile."""
        os.fdatasync(fd)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
