"""Compiled tools of the benchmarks, built in place when they are first imported and again after a change.

generate.pyx    the hits of a workload as bytes       yardstick.pyx   what the machine takes for a load, and steals
load.pyx        sends hits and questions to a server, and checks and times the answers

Not its job: anything that an installed server needs; nothing in `online` imports this.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

_HERE = Path(__file__).parent
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def _is_stale(source: Path) -> bool:
    compiled = source.with_name(source.stem + _SUFFIX)
    return not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime


def _build(sources: list[Path]) -> None:
    options = ["--inplace", "-3", "--quiet", "--directive", "cdivision=True"]
    command = [sys.executable, "-m", "Cython.Build.Cythonize", *options, *map(str, sources)]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode:
        raise ImportError(f"the tools of the benchmarks cannot be built:\n{built.stdout}")


if _STALE := [source for source in sorted(_HERE.glob("*.pyx")) if _is_stale(source)]:
    _build(_STALE)
