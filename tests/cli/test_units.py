"""The units of systemd in deploy/ are well formed, and run commands that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.programs import program

from online.cli.main import parser_of

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.socket")])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_unit(unit, tmp_path):
    # Programs and users of the machine that it is for are not there.
    text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^(User|Group)=.*\n", "", text, flags=re.MULTILINE)
    for each in UNITS:
        (tmp_path / each.name).write_text(
            "[Service]\nExecStart=/bin/true\n" if each.suffix == ".service" else each.read_text()
        )
    (tmp_path / unit.name).write_text(text)
    ran = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, [line for line in ran.stderr.splitlines() if unit.name in line]) == (0, [])


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_the_command_of_the_unit_can_be_parsed(unit):
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), flags=re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == "/opt/online/bin/online"
    assert parser_of(arguments[0]).parse_args(arguments).command == arguments[0]


def test_the_guide_names_every_unit():
    guide = (DEPLOY.parent / "docs" / "systemd.md").read_text()
    assert all(f"deploy/{unit.name}" in guide for unit in UNITS)
