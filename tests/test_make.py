"""What the targets of the Makefile install."""

import subprocess
from pathlib import Path

import pytest
from tests.programs import program

ROOT = Path(__file__).parent.parent


def steps(target):
    """The commands of a target in a folder where nothing is built."""
    command = [program("make"), "--no-print-directory", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_demo_says_at_once_how_long_it_takes_and_needs_none_of_the_packages_for_tests():
    commands = steps("run")
    assert commands[0].startswith('echo "Setting up .venv, which takes about')
    assert commands[-1].endswith("online demo ")
    assert not any("optional-dependencies" in command for command in commands)


@pytest.mark.parametrize("target", ["test", "check", "bench"])
def test_tests_and_benchmarks_install_the_rest(target):
    assert any("['optional-dependencies']['dev']" in command for command in steps(target))


def test_the_documentation_takes_none_of_the_packages_for_tests():
    commands = steps("docs")
    assert any("['optional-dependencies']['docs']" in command for command in commands)
    assert not any("['optional-dependencies']['dev']" in command for command in commands)
    assert any("sphinx-build" in command and " -W " in command for command in commands)
