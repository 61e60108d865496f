"""The bytes on the wire: every verb in every dialect answers as it did when the conversation was recorded."""

import subprocess
import sys
from pathlib import Path

RECORDED = Path(__file__).with_name("conversation.txt")
ROOT = Path(__file__).parents[2]


def test_every_verb_answers_as_recorded() -> None:
    """After a change that is meant: `python -m tests.core.conversation > tests/core/conversation.txt`."""
    command = [sys.executable, "-m", "tests.core.conversation"]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said.splitlines() == RECORDED.read_text().splitlines()
