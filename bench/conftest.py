"""The options and fixtures of the benchmarks: `record`, `quick` and `log`; and the results, written at the end."""

from collections.abc import Generator
from pathlib import Path

import pytest
from bench.recording import Recorder, Results, Row, machine, versions

RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "benchmarks of online")
    group.addoption("--quick", action="store_true", help="smaller sizes and fewer rounds: three minutes for all")
    group.addoption("--log", type=Path, metavar="FILE", help="an access log to take as a workload")
    group.addoption("--results", type=Path, metavar="DIR", help="write what was found there, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = Results(machine(), versions())


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Recorder:
    """Keeps rows of the report, in a group called as the file's first line; they are told as they come, too."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def tell(row: Row) -> None:
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"  {row.work}: {row.median:,.4g} {row.unit}{verdict(row)}")

    group = request.module.__doc__.partition("\n")[0].rstrip(".")
    return Recorder(request.config.stash[RESULTS], group, tell)


def verdict(row: Row) -> str:
    return "" if not row.has_target else ", met" if row.met else ", MISSED"


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Tells whether the whole run should take less than three minutes."""
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def log(request: pytest.FixtureRequest) -> Path | None:
    """The access log to take as a workload, if one was given."""
    path: Path | None = request.config.getoption("--log")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what was skipped and what failed: a report that does not tell of them would mislead."""
    report = yield
    results = item.config.stash[RESULTS]
    if report.skipped and isinstance(report.longrepr, tuple):
        results.skipped[item.name] = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        results.failed.append(item.name)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder: Path | None = session.config.getoption("--results")
    if folder is not None:
        session.config.stash[RESULTS].write(folder)
