"""Instructions that each hot path takes, counted by valgrind: the same on any machine. `make instructions`.

A count of more than 2 % above its limit in bench/instructions.toml fails. Whoever makes something faster writes the new
count there; whoever makes something slower has to say why.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
LIMITS = Path(__file__).with_name("instructions.toml")
TOLERANCE = 1.02
SIZE = 3_000

#: The Python that limits are written down for.
WRITTEN_FOR = 3, 11

#: The C library copies and compares with the plainest instructions, as otherwise it picks others on other processors.
#: (One of them, `rep movsb`, is counted once a byte.)
PLAINEST = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-BMI2,-ERMS,-FSRM,-RTM,-SSSE3,-SSE4_1,-SSE4_2"
ENVIRONMENT = {"PYTHONHASHSEED": "1", "GLIBC_TUNABLES": PLAINEST}

#: Marks that the side makes for each work: before the round that warms up, before the one that counts, and behind it.
MARKS = 3


def counted(size: int) -> dict[str, float]:
    """Return the instructions a unit of each work. Raises FileNotFoundError without valgrind."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        tool = ["valgrind", "--tool=callgrind", "--dump-before=getsid", f"--callgrind-out-file={out}"]
        side = [sys.executable, "-m", "bench.instructions_side", str(size)]
        done = subprocess.run([*tool, *side], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        works = [line.split("\t") for line in done.stdout.splitlines()]
        return {name: _total(f"{out}.{MARKS * (nth + 1)}") / int(n) for nth, (n, name) in enumerate(works)}


def _total(path: str) -> int:
    found = re.search(r"^totals: (\d+)", Path(path).read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def limits() -> dict[str, int]:
    """What is written down."""
    instructions: dict[str, int] = tomllib.loads(LIMITS.read_text())["instructions"]
    return instructions


def main() -> None:
    parser = argparse.ArgumentParser(prog="make instructions", description=__doc__)
    parser.add_argument("--size", type=int, default=SIZE, help=f"how many questions to count ({SIZE:,})")
    counts, wanted = counted(parser.parse_args().size), limits()
    if counts.keys() != wanted.keys():
        sys.exit(f"{LIMITS.name} does not name what is counted: {', '.join(counts.keys() ^ wanted.keys())}")
    for name, count in counts.items():
        limit = wanted[name]
        verdict = "too many" if count > TOLERANCE * limit else "lower the limit" if TOLERANCE * count < limit else ""
        print(f"{name:36}{count:10,.0f}   limit {limit:7,}  {verdict}".rstrip())
    if sys.version_info[:2] != WRITTEN_FOR:
        print("The limits are those of Python {}.{}; nothing is judged.".format(*WRITTEN_FOR))
    elif any(count > TOLERANCE * wanted[name] for name, count in counts.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
