"""Both distributions as they are published: a source archive each, and a wheel that was built from that.

Not here: what is true of them (test_packages, test_container).
"""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = {"online": ROOT, "online-client": ROOT / "client"}

#: Builds a source archive of the project in the working directory, without looking for packages on a network.
SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"


def run(*command, cwd, **variables):
    ran = subprocess.run(command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=1_200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def copy_of_repository(folder):
    """Copy the files of the repository to a folder; return whether there is a repository."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return tracked.returncode == 0


def make_sdist(folder, made, **variables):
    """Make the source archive of the project in `folder` in the folder `made`; return its path."""
    return made / run(sys.executable, "-c", SDIST, str(made), cwd=folder, **variables).splitlines()[-1]


@functools.cache
def built():
    """By project: the archive and the wheel, made once for all tests of a process; empty without a repository."""
    above = Path(tempfile.mkdtemp(prefix="online-packages-"))
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    copy = above / "copy"
    if not copy_of_repository(copy):
        return {}
    packages = {}
    for project in PROJECTS:
        made = above / project
        made.mkdir()
        archive = make_sdist(copy / PROJECTS[project].relative_to(ROOT), made)
        with tarfile.open(archive) as opened:
            opened.extractall(made, filter="data")
        source = made / archive.name.removesuffix(".tar.gz")
        options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--wheel-dir", str(made))
        run(sys.executable, "-m", "pip", "wheel", *options, str(source), cwd=made, ONLINE_CFLAGS="-O0")
        (wheel,) = made.glob("*.whl")
        packages[project] = archive, wheel
    return packages
