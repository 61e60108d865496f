"""Lines of the compiled core that were reached: `python -m tests.coverage FOLDER`, after `make coverage` has run tests.

gcov tells of each object file which lines of the .pyx and .pxd it has, and how often they ran. A line of inline code is
in many objects; it is reached if one of them has run it.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def lines_of(folder):
    """name of a file -> line -> how often it ran."""
    found = defaultdict(lambda: defaultdict(int))
    for data in folder.rglob("*.gcda"):
        command = ["gcov", "--json-format", "--stdout", str(data.resolve())]
        told = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        for document in told.splitlines():
            for file in json.loads(document)["files"]:
                if file["file"].endswith((".pyx", ".pxd")):
                    for line in file["lines"]:
                        found[Path(file["file"]).name][line["line_number"]] += line["count"]
    return found


def main():
    reached = all_lines = 0
    for name, lines in sorted(lines_of(Path(sys.argv[1])).items()):
        n = sum(count > 0 for count in lines.values())
        missed = [number for number, count in sorted(lines.items()) if not count]
        reached, all_lines = reached + n, all_lines + len(lines)
        print(f"{name:24} {n:5} of {len(lines):5} lines  {n / len(lines):4.0%}  not: {str(missed[:12])[1:-1]}")
    print(f"{'all':24} {reached:5} of {all_lines:5} lines  {reached / max(1, all_lines):4.1%}")


if __name__ == "__main__":
    main()
