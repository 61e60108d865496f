"""Compare the working tree with a commit: the hot paths in process, interleaved. `make ab`, or `make ab AB=v0.1.0`.

Each side runs in a process of its own, and rounds alternate between the two, so that other work of the machine hits
both alike. The ratio is the median of the rounds' ratios (working tree to commit: below 1 is faster), the range holds
the middle half of them. It takes half a minute once the commit is compiled; that is kept in .benchmarks/ab.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".benchmarks" / "ab"
ROUNDS = 41


class Side:
    """A process with the code of one tree, which times a round of a work when it is told to."""

    def __init__(self, tree: Path, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("ab_side.py")), str(tree), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, work: str) -> str:
        """Send a word and return the line that answers it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(work, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise SystemExit("a side has ended, see above")
        return answer

    def end(self) -> None:
        self._process.communicate()


def compiled(commit: str) -> Path:
    """Return a folder with a commit, compiled; made when it is first asked for."""
    command = ["git", "rev-parse", "--short=12", f"{commit}^{{commit}}"]
    name = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    tree = KEPT / name
    if not (tree / "compiled").exists():
        print(f"compiling {name} ...", flush=True)
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", name], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (tree / "compiled").touch()
    return tree


def pair(before: Side, after: Side, work: str, *, is_swapped: bool) -> tuple[float, float]:
    """Time a round on each side, the later side first if `is_swapped`."""
    if is_swapped:
        new = float(after.ask(work))
        return float(before.ask(work)), new
    old = float(before.ask(work))
    return old, float(after.ask(work))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make ab", description=__doc__)
    parser.add_argument("commit", nargs="?", default="HEAD", help="what to compare with (HEAD)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each work ({ROUNDS})")
    parser.add_argument("--users", type=int, help="compare a hit in a batch alone, with so many users online")
    args = parser.parse_args()
    given = [str(args.users)] if args.users else []
    before, after = Side(compiled(args.commit), *given), Side(ROOT, *given)
    works = after.ask("works").split(",")
    assert before.ask("works").split(",") == works
    works = works[:1] if args.users else works
    print(f"{'':<28}{'before':>10}{'after':>10}   ratio (range)")
    for work in works:
        times = [pair(before, after, work, is_swapped=bool(n % 2)) for n in range(args.rounds + 1)][1:]
        ratios = sorted(new / old for old, new in times)
        low, _, high = statistics.quantiles(ratios)
        old, new = (statistics.median(column) for column in zip(*times, strict=True))
        middle = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        print(f"{work:<28}{old:>7.1f} ns{new:>7.1f} ns   {middle}", flush=True)
    before.end()
    after.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
