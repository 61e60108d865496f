"""A disk that does what disks do."""

import errno
import os
import resource
import shutil

from online.keep.disk import Disk

#: A file may be so much longer, when the disk cuts a write off.
CUT_BYTES = 70


class SimulatedDisk(Disk):
    """Files of a folder, and what of each a power failure would leave."""

    def __init__(self, draw):
        self.draw = draw
        self.code = 0  #: all that makes or writes files fails with this
        self.sync_code = 0
        self.synced = {}  #: inode -> bytes

    def _check(self, code):
        if code:
            raise OSError(code, os.strerror(code))

    def create(self, path):
        self._check(self.code)
        return super().create(path)

    def write(self, fd, data):
        self._check(self.code)
        super().write(fd, data)

    def sync(self, fd):
        self._check(self.code or self.sync_code)
        status = os.fstat(fd)
        self.synced[status.st_ino] = status.st_size

    def sync_folder(self, path):
        self._check(self.code or self.sync_code)

    def fill(self, fd):
        """Let no byte more fit, neither here nor into the file that the journal writes."""
        self.code = errno.ENOSPC
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, fd)
        os.close(full)

    def break_down(self):
        """Let each sync fail."""
        self.sync_code = errno.EIO

    def cut_off(self, fd):
        """Let the next writes to the journal's file end in the middle, as on a disk that is just full."""
        size = os.fstat(fd).st_size + self.draw.randrange(CUT_BYTES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def recover(self):
        """Be whole again."""
        self.code = self.sync_code = 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def left_after(self, path, to, *, has_power):
        """Copy to a folder what is in another when the process, or the power, goes at this moment."""
        shutil.copytree(path, to)
        for each in sorted(path.iterdir()):
            status = each.stat()
            if not has_power:
                safe = min(status.st_size, self.synced.get(status.st_ino, 0))
                os.truncate(to / each.name, self.draw.randint(safe, status.st_size))
            left = (to / each.name).stat()
            self.synced[left.st_ino] = left.st_size
