"""Build the compiled core: each `ext/NAME.pyx` becomes `online.core.NAME`.

Metadata lives in pyproject.toml. The contracts (`.pxd`) stand in `src/online/core/`.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = (
    "arena", "skiplist", "slots", "table", "core", "ahead", "nameorder", "lists", "sections", "index",
    "checksum", "journal", "replay", "guests", "datagrams", "logfields", "jsonfields", "tally", "usual", "crowd",
    "connection", "arguments", "verbs", "resp", "msgpack", "hits", "questions", "transactions", "frames", "observers",
    "states", "past", "merge",
)

#: Where the system has epoll.
LINUX = ("peers", "reactor", "gets") if sys.platform == "linux" else ()
#: For builds that find faults, ONLINE_CFLAGS stands in for -O3, as "-O1 -DONLINE_COUNT_STEPS" in tests/core/test_steps.
FLAGS = [*os.environ.get("ONLINE_CFLAGS", "-O3").split(), "-fno-strict-aliasing"]
DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
}

extensions = [
    Extension(f"online.core.{name}", [f"ext/{name}.pyx"], extra_compile_args=FLAGS)
    for name in CORE + LINUX
]


class BuildCore(build_ext):
    """Makes C of Cython when the core is built; archives and metadata need none."""

    def run(self):
        #: Cython looks for a module's own contract beside its .pyx only, and would miss that it has changed.
        changed = max(contract.stat().st_mtime for contract in Path("src/online/core").glob("*.pxd"))
        is_stale = any(made.stat().st_mtime < changed for made in Path("ext").glob("*.c"))
        translated = cythonize(extensions, include_path=["src"], compiler_directives=DIRECTIVES, force=is_stale)
        made = {each.name: each for each in translated}
        for extension in self.extensions:
            extension.sources, extension.depends = made[extension.name].sources, made[extension.name].depends
        super().run()


setup(ext_modules=extensions, cmdclass={"build_ext": BuildCore}, options={"build_ext": {"parallel": True}})
