"""Lines of the compiled core that were reached: `python -m tests.coverage FOLDER`, after `make coverage` has run tests.

gcov tells which lines of the C ran. Cython writes above each piece of it which line of the .pyx or .pxd it is of; a
line is reached if C of such a piece was. C that stands in no piece is Cython's own: modules, wrappers of arguments,
and what it needs for classes. A line of inline code is in many objects; it is reached if one of them has run it.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

#: How Cython says of what line the C is that follows; and what begins C of its own.
PIECE = re.compile(r'^ *(?:/\* "(?P<file>[\w/.]+\.p[yx][xd])":(?P<line>\d+)$|/\* function exit code)')


def lines_of_c(source):
    """number of a line of C -> (name of a file, line), for what is of one."""
    of, found = None, {}
    for number, text in enumerate(source.read_text(errors="replace").splitlines(), 1):
        if piece := PIECE.match(text):
            of = (Path(piece["file"]).name, int(piece["line"])) if piece["file"] else None
        elif text.startswith("}"):  # the end of a function
            of = None
        elif of is not None:
            found[number] = of
    return found


def lines_of(folder):
    """name of a file -> line -> how often it ran."""
    found = defaultdict(lambda: defaultdict(int))
    for data in folder.rglob("*.gcda"):
        command = ["gcov", "--json-format", "--stdout", str(data.resolve())]
        told = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        for document in told.splitlines():
            for file in json.loads(document)["files"]:
                if file["file"].startswith("ext/"):
                    of = lines_of_c(folder / file["file"])
                    for line in file["lines"]:
                        if line["line_number"] in of:
                            name, number = of[line["line_number"]]
                            found[name][number] += line["count"]
    return found


def main():
    reached = all_lines = 0
    for name, lines in sorted(lines_of(Path(sys.argv[1])).items()):
        n = sum(count > 0 for count in lines.values())
        missed = [number for number, count in sorted(lines.items()) if not count]
        reached, all_lines = reached + n, all_lines + len(lines)
        print(f"{name:24} {n:5} of {len(lines):5} lines  {n / len(lines):4.0%}  not: {str(missed[:40])[1:-1]}")
    print(f"{'all':24} {reached:5} of {all_lines:5} lines  {reached / max(1, all_lines):4.1%}")


if __name__ == "__main__":
    main()
