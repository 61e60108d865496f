"""Memory that cannot be had: whichever request fails, an error is raised and nothing has changed.

`make check-hard` lets each request of Python and its libraries fail too, where a short run takes some:
ONLINE_STARVE_GROWTH is the factor from one to the next.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving import environment

GROWTH = os.environ.get("ONLINE_STARVE_GROWTH", "1.2")

#: Where the core asks for memory, and how often at least.
ASKS = {
    "an_index_is_made": 6,
    "hits_of_long_urls": 8,
    "a_hit_when_both_tables_grow": 2,
    "users_expire_and_tables_shrink": 2,
    "top_and_section": 1,
    "names_are_ordered_after_loading": 1,
    "an_observer_of_what_is_written": 2,
    "a_journal_notes_a_turn": 3,
    "a_journal_is_replayed": 8,
    "a_directory_of_sessions_is_dumped": 3,
    "states_of_channels": 2,
    "the_past_is_noted": 2,
    "usual_lines_are_read": 4,
    "what_lines_say_is_counted": 7,
    "commands_in_resp": 6,
    "a_command_in_pieces": 4,
    "a_transaction": 8,
    "requests_in_messagepack": 6,
    "a_batch_in_pieces": 4,
    "a_service_and_a_reactor": 12,
}

#: Those that can do without.
CONTENT = {"users_expire_and_tables_shrink", "names_are_ordered_after_loading"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("failing") / "failing_memory.so"
    source = Path(__file__).with_name("failing_memory.c")
    subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-o", made, source], check=True)
    return made


def starve(library, *arguments, **variables):
    """Run the cases; return how many requests failed in each."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.core.starving", str(library), *arguments]
    run = subprocess.run(command, env=environment(LD_PRELOAD=str(library), **variables), capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, f"{lines[-1:]}\n{run.stderr}"
    return {name: counts for name, counts in map(json.loads, lines) if counts != "begun"}


@pytest.mark.slow
def test_each_request_of_the_core_fails_once_and_all_from_each_on(library):
    counts = starve(library, "core")
    for name, n_requests in ASKS.items():
        assert counts[name]["each"][0] >= n_requests, name
        assert (counts[name]["all from each on"][1] > 0) == (name not in CONTENT), name


@pytest.mark.slow
@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="Python ends the process itself when there is no memory to make a function"
)
def test_requests_of_python_fail_too(library):
    counts = starve(library, "all", GROWTH, PYTHONMALLOC="malloc")
    assert set(counts) >= set(ASKS) - {"hits_of_long_urls", "the_past_is_noted"}
    assert sum(each["each"][1] for each in counts.values()) > 200
