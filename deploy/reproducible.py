"""Rewrites source archives so that whoever builds them from the same commit gets the same bytes.

    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) python deploy/reproducible.py dist/*.tar.gz

Names, contents, and whether a file may be executed stay; times become that of the commit, and owners go. Only needed
where archives are published: docs/releasing.md.
"""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def rewrite(archive: Path, epoch: int) -> None:
    """Rewrite an archive in place; `epoch`: seconds since 1970."""
    plain = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.mtime = epoch
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with archive.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed:
        packed.write(plain.getvalue())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name), int(os.environ["SOURCE_DATE_EPOCH"]))
