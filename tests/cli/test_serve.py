"""`online serve`: the limit on open files, and what its settings attach to a server."""

import resource
from pathlib import Path

import pytest
from tests.serving import LOCAL

from online.cli import serve as command_module
from online.cli.serve import assemble, raise_open_files
from online.errors import ConfigError
from online.serve.config import Config


def test_the_limit_on_open_files_is_raised_to_fit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_open_files(1_000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1_000 + command_module.SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_limit_on_open_files_that_stays_too_low_is_said(monkeypatch, caplog):
    def refuse(which, limits):
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files(1_000)
    assert "the limit on open files is 100, too low for max_connections = 1000" in caplog.text


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"http": ()}, ["past"]),
        ({}, ["past", "http"]),
        ({"state": Path("/nowhere"), "http": ()}, ["state", "past"]),
        ({"syslog": (LOCAL,)}, ["past", "syslog", "http"]),
        ({"syslog": (LOCAL,), "state": Path("/nowhere"), "http": (LOCAL,)}, ["state", "past", "syslog", "http"]),
    ],
)
def test_parts_are_those_that_were_asked_for_and_the_state_comes_first(settings, parts):
    """It is read before anything comes in, and written when nothing can any more."""
    assert [part.name for part in assemble(Config(**settings)).parts] == parts


def test_settings_of_syslog_are_checked_also_where_none_comes():
    with pytest.raises(ConfigError, match="rules /nowhere: No such file"):
        assemble(Config(syslog_rules=Path("/nowhere")))
