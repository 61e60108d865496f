"""Builds the fuzzers in C (quick.pyx) and imports them: `quick_in(FOLDER)`.

CC and ONLINE_CFLAGS say how, as for the core; the core that is imported must be built in the same way.
"""

import importlib.util
import os
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).parent / "quick.pyx"
CONTRACTS = Path(__file__).parents[2] / "src"


def quick_in(folder):
    """Return the module, built in a folder unless it is there and as new as its source and the core's contracts."""
    compiled = Path(folder) / f"quick{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [SOURCE, *(CONTRACTS / "online" / "core").glob("*.pxd")]
    if not compiled.exists() or compiled.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        _build(folder)
    spec = importlib.util.spec_from_file_location("quick", compiled)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(folder):
    from Cython.Build import cythonize
    from setuptools import Extension
    from setuptools.dist import Distribution

    flags = [*os.environ.get("ONLINE_CFLAGS", "-O0").split(), "-fno-strict-aliasing", "-w"]
    made = cythonize(
        [Extension("quick", [str(SOURCE)], extra_compile_args=flags)],
        include_path=[str(CONTRACTS)],
        build_dir=str(folder),
        compiler_directives={"language_level": 3, "cdivision": True},
        quiet=True,
    )
    command = Distribution({"ext_modules": made}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
