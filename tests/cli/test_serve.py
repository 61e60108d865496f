"""`online serve`: the limit on open files, and what its settings attach to a server."""

import resource

from online.cli import serve as command_module
from online.cli.serve import raise_open_files


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
    assert "100 open files are allowed: too few for max_connections, 1000" in caplog.text
