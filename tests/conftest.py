"""Fixtures of several folders: the implementations of the index, and servers in processes of their own."""

import os
import sys

import pytest
from tests.serving import PATIENCE_S, server_process

from online.core.index import Index
from online.core.reference import ReferenceIndex
from online_client import Client

#: The tools of the benchmarks read /proc and wait with ppoll.
collect_ignore = [] if sys.platform == "linux" else ["bench/test_bench.py"]
if not os.environ.get("ONLINE_REAL_LOGS"):
    collect_ignore.append("logs/test_real_logs.py")


def pytest_collection_modifyitems(config, items):
    """Leave out what builds packages and an image, which takes minutes, unless ONLINE_PACKAGES is set."""
    groups = [item.get_closest_marker("xdist_group") for item in items]
    left_out = [] if "ONLINE_PACKAGES" in os.environ else [
        item for item, group in zip(items, groups, strict=True) if group is not None and group.args == ("packages",)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=[ReferenceIndex, Index], ids=["reference", "compiled"])
def make_index(request):
    """The class of an index: every test that asks for it runs once with each of the two."""
    return request.param


@pytest.fixture(scope="module")
def server_options():
    """The options of `server`, for modules that need some."""
    return ()


@pytest.fixture(scope="module")
def server(server_options):
    """A server for all tests of a module."""
    with server_process(*server_options) as process:
        yield process


@pytest.fixture
def url(server, request):
    """The url of a site on `server` that no other test uses."""
    return f"{server.url}/{abs(hash(request.node.name))}"


@pytest.fixture
def client(url):
    with Client(url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def syslog_server():
    """A server that receives syslog, for one test alone."""
    with server_process("--syslog", "127.0.0.1:0") as process:
        yield process


@pytest.fixture
def syslog_client(syslog_server):
    with Client(syslog_server.url, timeout=PATIENCE_S) as client:
        yield client
