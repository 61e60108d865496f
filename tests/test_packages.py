"""Both distributions build from their source archives alone, and what is installed from them runs."""

import configparser
import gzip
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests import packaging
from tests.packaging import ROOT, run
from tests.serving import environment

pytestmark = pytest.mark.xdist_group("packages")


@pytest.fixture(scope="module")
def built():
    """By project: a wheel that was built from the source archive, which was built from the files of the repository."""
    packages = packaging.built()
    if not packages:
        pytest.skip("this is no repository, so which files belong to it is not known")
    return {project: wheel for project, (_, wheel) in packages.items()}


def test_a_wheel_holds_the_program_and_no_sources_of_the_core(built):
    names = zipfile.ZipFile(built["online"]).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"online"}
    suffixes = {Path(name).suffix for name in names}
    assert {".pyi", ".pxd", ".typed"} <= suffixes | {f".{Path(name).name.split('.')[-1]}" for name in names}
    assert not {".pyx", ".c", ".o"} & suffixes
    assert "online/http/pages/index.html" in names
    assert "online/cli/pages/report.html" in names
    compiled = {Path(name).name.split(".")[0] for name in names if name.endswith((".so", ".dylib"))}
    assert compiled == {path.stem for path in (ROOT / "ext").glob("*.pyx")} - ({"reactor"} - compiled)


def test_what_is_made_can_be_published(built):
    files = [str(file) for each in packaging.built().values() for file in each]
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=ROOT)
    run(sys.executable, "-m", "check_wheel_contents", *map(str, built.values()), cwd=ROOT)


def test_the_command_has_the_name_of_the_distribution(built):
    """So `uvx online` and `pipx run online` need not be told which command is meant."""
    with zipfile.ZipFile(built["online"]) as wheel:
        (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(wheel.read(name).decode())
    assert dict(points["console_scripts"]) == {"online": "online.cli.main:main"}


def test_who_builds_an_archive_again_gets_the_same_bytes(tmp_path):
    made = []
    for day in (1, 2):
        copy = tmp_path / f"copy{day}"
        assert packaging.copy_of_repository(copy)
        for each in copy.rglob("*"):
            os.utime(each, (86_400 * day, 86_400 * day))
        folder = tmp_path / f"made{day}"
        folder.mkdir()
        archive = packaging.make_sdist(copy / "client", folder)
        run(sys.executable, "deploy/reproducible.py", str(archive), cwd=ROOT, SOURCE_DATE_EPOCH="1700000000")
        made.append(archive)
    assert made[0].read_bytes() == made[1].read_bytes()
    with tarfile.open(made[0]) as opened:
        assert {each.mtime for each in opened} == {1_700_000_000}
        assert any(each.name.endswith("/online_client/client.py") for each in opened)
    assert gzip.decompress(made[0].read_bytes())


def test_wheels_are_made_for_every_version_of_python_that_is_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built_for = re.findall(r"cp3(\d+)-", project["tool"]["cibuildwheel"]["build"])
    classified = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["project"]["classifiers"]))
    assert built_for == classified
    assert project["project"]["requires-python"] == f">=3.{built_for[0]}"
    assert f"CPython 3.{built_for[0]} to 3.{built_for[-1]}" in (ROOT / "docs" / "versions.md").read_text()


def test_what_is_installed_from_the_wheels_serves(built, tmp_path):
    options = ("--no-deps", "--no-index", "--quiet", "--target", str(tmp_path))
    run(sys.executable, "-m", "pip", "install", *options, *map(str, built.values()), cwd=tmp_path)
    variables = environment() | {"PYTHONPATH": str(tmp_path)}
    where = "import online, online_client; print(online.__file__, online_client.__file__)"
    found = run(sys.executable, "-c", where, cwd=tmp_path, **variables)
    assert found.split() == [f"{tmp_path}/online/__init__.py", f"{tmp_path}/online_client/__init__.py"]
    command = [sys.executable, "-m", "online", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) as server:
        try:
            told = (re.search(r" listens on 127\.0\.0\.1:(\d+)", line) for line in server.stderr)
            port = next(match[1] for match in told if match)
            asked = ("-m", "online", "query", "--url", f"online://127.0.0.1:{port}")
            assert run(sys.executable, *asked, "hit", "ada", "/a", cwd=tmp_path, **variables)
            assert run(sys.executable, *asked, "count", cwd=tmp_path, **variables).strip() == "1"
        finally:
            server.terminate()
        assert server.wait(30) == 0
