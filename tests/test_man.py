"""Manual pages are well-formed, and have every option of every command."""

import argparse
import re
import subprocess

import pytest
from docs.site import man
from docs.site.reference import parser_of, subparsers_of
from tests.programs import program

from online.cli.main import COMMANDS


def plain(text):
    return re.sub(r"\\f[BR]|\\&", "", text).replace("\\-", "-").replace("\\e", "\\")


def options_of(parser):
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            yield from action.option_strings
    for below in subparsers_of(parser).values():
        yield from options_of(below)


@pytest.fixture(scope="module")
def pages():
    return man.pages()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_verb(pages, name):
    text = plain(pages[f"online-{name}.1"])
    parser = parser_of(name)
    assert all(re.search(rf"^.*{option}\b", text, re.MULTILINE) for option in options_of(parser))
    assert all(f".SH {f'{name} {verb}'.upper()}\n" in text for verb in subparsers_of(parser))


def test_the_first_page_names_all_others(pages):
    assert set(pages) == {"online.1", *(f"online-{name}.1" for name in COMMANDS)}
    assert all(f"online-{name}(1)" in plain(pages["online.1"]).replace("\\fR", "") for name in COMMANDS)


def test_groff_has_nothing_to_say_about_the_pages(tmp_path, pages):
    man.write(tmp_path)
    files = sorted(map(str, (tmp_path / "man1").iterdir()))
    assert len(files) == len(pages)
    ran = subprocess.run(
        [program("groff"), "-man", "-Tutf8", "-ww", *files], capture_output=True, text=True, timeout=60
    )
    told = [line for line in ran.stderr.splitlines() if "cannot adjust" not in line and "can't break" not in line]
    assert (ran.returncode, told) == (0, [])
    assert "ONLINE-SERVE(1)" in ran.stdout
