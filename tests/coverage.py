"""How much of the compiled core ran: `python -m tests.coverage FOLDER [--missed]`, after `make coverage` has run tests.

gcov tells which lines of the C ran, and which ways its conditions went. Cython writes above each piece of C which line
of the .pyx or .pxd it is of.

- A line is reached if C of such a piece was. C that stands in no piece is Cython's own, or written as C in the source.
- A condition of the source is a `switch`, a `for` that counts, or an `if` of a single operand, which Cython gives to
  what the source asks: `if`, `elif`, `while`, both sides of `and` and `or`, `min`, `max`, `except`. What Cython asks
  itself looks otherwise: `unlikely(...)` of more than a name, a comparison, a call, or no variable of the source. A
  loop over a list, a tuple, a dict, or whatever it is, is one condition: there is a next item, or there is none.
- Each way that a condition may go is a branch.

Inline code is in many objects; it is reached if one of them has run it. `--missed` lists what was not reached: `+` is a
way that was taken, `-` one that was not; that in which C's condition holds comes first.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

#: How Cython says of what line the C is that follows; and what begins C of its own.
PIECE = re.compile(r'^ *(?:/\* "(?P<file>[\w/.]+\.p[yx][xd])":(?P<line>\d+)$|/\* function exit code)')

VALUE = r"!?\(*(?:__pyx_t_\d+|__pyx_v_[\w.>\[\]-]+)\)*"
CONDITION = re.compile(
    rf"^ *(?:if \((?:{VALUE}|(?:un)?likely\(__pyx_t_\d+\))\) (?:\{{|break;)$"
    r"|for \(__pyx_t_\d+ = .*\) \{$|switch \((?!__pyx_nargs|.*resume_label))"
)
#: A loop over an object, and where it finds no next item.
LOOP = re.compile(r"^ *for \(;;\) \{$")
NO_NEXT = re.compile(
    r"^ *(?:if \(__pyx_t_\d+ >= (?:__pyx_temp|\d+)\) break;|if \(unlikely\(__pyx_t_\d+ == 0\)\) break;"
    r"|if \(unlikely\(!__pyx_t_\d+\)\) \{\n *PyObject\* exc_type = )"
)


def pieces_of_c(text):
    """For each line of C that is of one of the source: its number, (name of a file, line), its text with the next."""
    of = None
    each = text.splitlines()
    for number, (line, following) in enumerate(zip(each, [*each[1:], ""], strict=True), 1):
        if piece := PIECE.match(line):
            of = (Path(piece["file"]).name, int(piece["line"])) if piece["file"] else None
        elif line.startswith("}"):  # the end of a function
            of = None
        elif of is not None:
            yield number, of, f"{line}\n{following}"


def conditions_of_c(text):
    """number of a line of C -> (name of a file, line, which condition of that line)."""
    found, so_far, loop = {}, defaultdict(int), None
    for number, of, both in pieces_of_c(text):
        line = both.partition("\n")[0]
        if NO_NEXT.match(both):
            if loop:
                found[number] = loop
        elif CONDITION.match(line) or LOOP.match(line):
            condition = (*of, so_far[of])
            so_far[of] += 1
            if LOOP.match(line):
                loop = condition
            else:
                found[number] = condition
    return found


def measured(folder):
    """What ran: name of a file -> line -> how often, and name -> (line, which) -> how often each way."""
    lines = defaultdict(lambda: defaultdict(int))
    branches = defaultdict(dict)
    for data in folder.rglob("*.gcda"):
        command = ["gcov", "--json-format", "--branch-probabilities", "--stdout", str(data.resolve())]
        told = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        for document in told.splitlines():
            for file in json.loads(document)["files"]:
                if not file["file"].startswith("ext/"):
                    continue
                text = (folder / file["file"]).read_text(errors="replace")
                of = {number: place for number, place, _ in pieces_of_c(text)}
                conditions = conditions_of_c(text)
                for line in file["lines"]:
                    if line["line_number"] in of:
                        name, number = of[line["line_number"]]
                        lines[name][number] += line["count"]
                    if line["line_number"] in conditions and line["branches"]:
                        name, *which = conditions[line["line_number"]]
                        counts = [branch["count"] for branch in line["branches"]]
                        before = branches[name].get(tuple(which), [0] * len(counts))
                        branches[name][tuple(which)] = [a + b for a, b in zip(before, counts, strict=True)]
    return lines, branches


def show_missed(folder, name, lines, branches):
    path = next(path for path in (folder / "ext" / name, folder / "src/online/core" / name) if path.exists())
    source = path.read_text().splitlines()
    for number, count in sorted(lines.items()):
        ways = [
            "".join("+" if way else "-" for way in counts)
            for (of, _), counts in sorted(branches.items())
            if of == number and not all(counts)
        ]
        if not count or ways:
            print(f"    {number:4} {' '.join(ways) if count else 'not':8} {source[number - 1].strip()}")


def share(reached, of):
    return f"{reached:5} of {of:5} ({reached / of if of else 1:6.1%})"


def main():
    folder = Path(sys.argv[1])
    lines, branches = measured(folder)
    total = [0, 0, 0, 0]
    for name in sorted(lines):
        ways = [count for counts in branches[name].values() for count in counts]
        counts = list(lines[name].values())
        found = [sum(map(bool, counts)), len(counts), sum(map(bool, ways)), len(ways)]
        total = [a + b for a, b in zip(total, found, strict=True)]
        print(f"{name:16} {share(*found[:2])} lines  {share(*found[2:])} branches")
        if "--missed" in sys.argv:
            show_missed(folder, name, lines[name], branches[name])
    print(f"{'all':16} {share(*total[:2])} lines  {share(*total[2:])} branches")


if __name__ == "__main__":
    main()
