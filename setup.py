"""Build the compiled core: each `ext/NAME.pyx` becomes `online.core.NAME`.

Metadata lives in pyproject.toml. The contracts (`.pxd`) stand in `src/online/core/`.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = (
    "arena", "skiplist", "table", "core", "ahead", "ordering", "lists", "sections", "index",
    "checksum", "journal", "replay",
    "connection", "arguments", "verbs", "resp", "msgpack", "hits", "questions", "transactions", "frames", "observers",
)

#: Where the system has epoll.
LINUX = ("reactor",) if sys.platform == "linux" else ()
#: For builds that find faults, ONLINE_CFLAGS stands in for -O3, as "-O0 -DONLINE_COUNT_STEPS" in tests/core/test_steps.
FLAGS = [*os.environ.get("ONLINE_CFLAGS", "-O3").split(), "-fno-strict-aliasing"]
#: For coverage: lines of the generated C are called those of the .pyx.
LINES = "ONLINE_LINES" in os.environ
DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
}

extensions = [
    Extension(f"online.core.{name}", [f"ext/{name}.pyx"], extra_compile_args=FLAGS)
    for name in CORE + LINUX
]
#: Cython looks for a module's own contract beside its .pyx only, and would miss that it has changed.
changed = max(contract.stat().st_mtime for contract in Path("src/online/core").glob("*.pxd"))
is_stale = any(made.stat().st_mtime < changed for made in Path("ext").glob("*.c"))

setup(
    ext_modules=cythonize(
        extensions, include_path=["src"], compiler_directives=DIRECTIVES, force=is_stale, emit_linenums=LINES
    ),
    options={"build_ext": {"parallel": True}},
)
