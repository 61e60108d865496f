"""The architecture: who may import whom. The maps in the `__init__` of the package and of each folder say it.

And how wide lines are where no linter looks.
"""

import ast
import re
from pathlib import Path

import pytest

import online

PACKAGE = Path(online.__file__).parent
EXT = Path(__file__).parents[1] / "ext"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

#: Only these know sockets and TLS of Python's own: listeners opens, syslog receives, tls reads certificates.
OPENERS = {"serve.handover", "serve.listeners", "serve.syslog", "serve.systemd", "serve.tls"}


def read_map(path: Path) -> dict[str, set[str]]:
    """Read the rows `name  text  -> what it may import` of a map."""
    text = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    rows = re.findall(r"^    (\w+) +\S[^\n]*?(?: {2,}-> ([\w, ]+))?$", text, re.MULTILINE)
    return {name: set(arrows.split(", ")) if arrows else set() for name, arrows in rows}


TOP = read_map(PACKAGE / "__init__.py")
MAPS = {room: read_map(PACKAGE / room / "__init__.py") for room in ROOMS}
SAID_ONCE = set(TOP) - set(ROOMS)


def modules_of(room: str) -> dict[str, list[Path]]:
    """The files of each module of a room."""
    files: dict[str, list[Path]] = {}
    for path in sorted((PACKAGE / room).glob("*.p*")):
        if path.suffix in (".py", ".pxd", ".pyi") and path.stem != "__init__":
            files.setdefault(path.stem, []).append(path)
    if room == "core":
        for path in sorted(EXT.glob("*.pyx")):
            files.setdefault(path.stem, []).append(path)
    return files


def names_in_python(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            module = node.module or ""
            is_folder = module == "online" or module in {f"online.{room}" for room in ROOMS}
            names |= {f"{module}.{alias.name}" for alias in node.names} if is_folder else {module}
    return names


def names_in_cython(path: Path) -> set[str]:
    return set(re.findall(r"^from (online[\w.]*) c?import", path.read_text(), re.MULTILINE))


def imports_of(paths: list[Path]) -> set[str]:
    """The modules that files import, as `room.module` or `module`, and `online_client`."""
    names: set[str] = set()
    for path in paths:
        names |= names_in_cython(path) if path.suffix in (".pyx", ".pxd") else names_in_python(path)
    ours = {name.removeprefix("online.") for name in names if name.startswith("online.")}
    client = {"online_client" for name in names if name.split(".")[0] == "online_client"}
    return {".".join(name.split(".")[:2]) for name in ours - {"__version__"}} | client


def reach(rows: dict[str, set[str]], name: str) -> set[str]:
    """What may be imported from `name`: where its arrows lead, directly or over others."""
    return set().union(*({other} | reach(rows, other) for other in rows.get(name, ())))


MODULES = [(room, module, paths) for room in ROOMS for module, paths in modules_of(room).items()]


@pytest.mark.parametrize(("room", "module", "paths"), MODULES, ids=[f"{room}.{module}" for room, module, _ in MODULES])
def test_a_module_imports_along_the_maps(room: str, module: str, paths: list[Path]) -> None:
    inside = {f"{room}.{other}" for other in reach(MAPS[room], module) | {module}}
    for name in imports_of(paths) - SAID_ONCE - inside:
        other = name.split(".")[0]
        assert other != room, f"{room}/__init__ has no arrow from {module} to {name}"
        assert other in reach(TOP, room), f"the map has no arrow from {room} to {name}"


@pytest.mark.parametrize("module", sorted(SAID_ONCE))
def test_what_is_said_once_imports_no_room(module: str) -> None:
    assert imports_of([PACKAGE / f"{module}.py"]) <= SAID_ONCE


@pytest.mark.parametrize("rows", [TOP, *MAPS.values()], ids=["online", *MAPS])
def test_a_map_has_no_circle(rows: dict[str, set[str]]) -> None:
    placed: set[str] = {"online_client"}
    left = dict(rows)
    while left:
        ready = [name for name, uses in left.items() if uses <= placed]
        assert ready, f"a circle among {sorted(left)}"
        placed |= set(ready)
        for name in ready:
            del left[name]


@pytest.mark.parametrize("room", ROOMS)
def test_a_map_names_every_file(room: str) -> None:
    assert set(MAPS[room]) == set(modules_of(room))


def test_the_top_map_names_every_folder_and_file() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert set(TOP) == files | set(ROOMS)


def test_only_openers_open_sockets() -> None:
    openers = {
        f"{room}.{module}"
        for room, module, paths in MODULES
        if any({"socket", "ssl"} & names_in_python(path) for path in paths if path.suffix == ".py")
    }
    assert openers == OPENERS


@pytest.mark.parametrize("path", sorted([*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.css")]), ids=lambda path: path.name)
def test_lines_of_pages_are_as_wide_as_those_of_python(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []
