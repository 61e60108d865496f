"""The architecture: who may import whom. The map in `online/__init__.py` says the same in words."""

import ast
import re
from pathlib import Path

import pytest

import online

PACKAGE = Path(online.__file__).parent
EXT = Path(__file__).parent.parent / "ext"

#: What every part may use.
COMMON = {"__init__", "terms", "limits", "errors"}

#: Module -> the modules of this project that it may import, beside COMMON.
ALLOWED: dict[str, set[str]] = {
    "terms": set(),
    "limits": set(),
    "errors": set(),
    "reference": set(),
    "arena": set(),
    "skiplist": {"arena"},
    "table": {"arena", "skiplist"},
    "core": {"arena", "skiplist", "table"},
    "index": {"arena", "skiplist", "table", "core"},
    "wire": {"arena", "skiplist", "core", "index"},
    "reactor": {"wire"},
    "clock": set(),
    "config": set(),
    "verbs": {"index", "wire"},
    "files": set(),
    "state": {"files", "wire", "verbs"},
    "streams": {"wire"},
    "syslog": {"config", "formats", "pages", "rules", "verbs", "wire"},
    "server": {"clock", "config", "files", "reactor", "state", "streams", "syslog", "verbs", "wire"},
    "records": set(),
    "jsonlines": {"records"},
    "logformat": {"records"},
    "formats": {"records", "jsonlines", "logformat"},
    "rules": set(),
    "pages": {"files", "records", "rules"},
    "hitlog": {"formats", "jsonlines", "records"},
    "follow": {"hitlog"},
    "places": {"files", "follow"},
    "sending": {"pages", "online_client"},
    "feed": {"follow", "hitlog", "pages", "places", "rules", "sending", "online_client"},
    "report": {"hitlog", "index", "pages", "rules"},
    "query": {"online_client"},
    "screen": {"query", "online_client"},
    "top": {"query", "screen", "online_client"},
    "replay": {"hitlog", "online_client"},
    "demo": {"config", "server", "online_client"},
    "cli": set(),  # imports the module of a command by name, when it is asked for
    "__init__": set(),
    "__main__": {"cli"},
}

PYTHON = sorted(PACKAGE.glob("*.py"))
CYTHON = sorted(EXT.glob("*.pyx"))


def imported_by_python(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            module = node.module or ""
            names |= {f"online.{alias.name}" for alias in node.names} if module == "online" else {module}
    return ours(names)


def imported_by_cython(path: Path) -> set[str]:
    lines = path.read_text().splitlines()
    names = {match[1] for line in lines if (match := re.match(r"from (online[\w.]*) c?import", line))}
    return ours(names) - {"online"}


def ours(names: set[str]) -> set[str]:
    """Reduce names to modules of the package, and to `online_client` whole."""
    modules = {"online_client" for name in names if name.split(".")[0] == "online_client"}
    for name in names:
        first, _, rest = name.partition(".")
        if first == "online" and rest:
            modules.add(rest.split(".")[0])
    return {module for module in modules if module != "__version__"}


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_a_python_module_imports_along_the_map(path: Path) -> None:
    assert imported_by_python(path) <= ALLOWED[path.stem] | COMMON


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_a_compiled_module_imports_along_the_map(path: Path) -> None:
    contract = PACKAGE / f"{path.stem}.pxd"
    found = imported_by_cython(path) | imported_by_cython(contract)
    assert found <= ALLOWED[path.stem] | COMMON


def test_the_map_has_no_circle() -> None:
    placed: set[str] = {"online_client"}
    left = dict(ALLOWED)
    while left:
        ready = [module for module, uses in left.items() if uses <= placed]
        assert ready, f"a circle among {sorted(left)}"
        placed |= set(ready)
        for module in ready:
            del left[module]


def test_every_module_is_on_the_map() -> None:
    assert {path.stem for path in [*PYTHON, *CYTHON]} == set(ALLOWED)


def test_only_the_server_and_syslog_open_sockets() -> None:
    openers = {path.stem for path in PYTHON if {"socket", "ssl"} & set(imports_at_all(path))}
    assert openers == {"server", "syslog"}


def imports_at_all(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
