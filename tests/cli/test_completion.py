"""`online completion`: scripts that the shells take, and that know every command."""

import subprocess

import pytest
from tests.programs import program

from online.cli.completion import SHELLS
from online.cli.main import COMMANDS, main


@pytest.fixture(params=SHELLS)
def shell(request):
    program(request.param)
    return request.param


def script(shell, capsys):
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(shell, written, path, words):
    """What a shell offers for the last of some words."""
    path.write_text(written)
    if shell == "bash":
        asked = " ".join(map(repr, words))
        lines = [f"source {path}", f"COMP_WORDS=({asked})", f"COMP_CWORD={len(words) - 1}", "_shtab_online"]
        ask = ["bash", "-c", "\n".join([*lines, 'printf "%s\\n" "${COMPREPLY[@]}"'])]
    else:
        ask = ["fish", "--no-config", "-c", f"source {path}; complete -C '{' '.join(words)}'"]
    ran = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    assert not ran.stderr, ran.stderr
    return {line.split("\t")[0] for line in ran.stdout.splitlines()}


def test_a_shell_takes_its_script(shell, capsys, tmp_path):
    path = tmp_path / "script"
    path.write_text(script(shell, capsys))
    checked = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "fish"], indirect=True)
def test_commands_verbs_and_options_are_offered(shell, capsys, tmp_path):
    def offered(*words):
        return completed(shell, script(shell, capsys), tmp_path / "script", ["online", *words])

    assert offered("") >= set(COMMANDS)
    assert offered("do") == {"doctor"}
    assert offered("query", "cou") == {"count", "counts"}
    assert "--max-memory" in offered("serve", "--max-m")
    assert "--visit" in offered("doctor", "--v")
    assert offered("completion", "b") == {"bash"}


def test_the_script_of_every_shell_names_every_command(capsys):
    for shell in SHELLS:
        text = script(shell, capsys)
        assert all(name in text for name in COMMANDS)


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "bsh"])
    assert "did you mean bash?" in capsys.readouterr().err
