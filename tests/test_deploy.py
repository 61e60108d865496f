"""What is in deploy/ for other programs: they take it, and it says what the server needs.

Not here: units of systemd (cli/test_units), replicas (bus/test_deploy), metrics (http/test_deploy), the image
(test_container).
"""

import re
import subprocess
from pathlib import Path

import pytest
from tests.programs import program

from online.serve import syslog

DEPLOY = Path(__file__).parents[1] / "deploy"
SETTINGS = dict(re.findall(r"^([\w.]+) = (\d+)$", (DEPLOY / "sysctl.conf").read_text(), re.MULTILINE))


def checked(*command):
    return subprocess.run([program(command[0]), *map(str, command[1:])], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_kernel_has_the_setting(name):
    if not Path("/proc/sys/net/core/rmem_max").exists():
        pytest.skip("no Linux, or a network namespace, which does not show all of its settings")
    assert Path("/proc/sys", *name.split(".")).exists()


def test_the_kernel_has_the_room_that_syslog_asks_for():
    assert int(SETTINGS["net.core.rmem_max"]) == syslog.RECEIVE_BUFFER_BYTES


def test_logrotate_takes_its_file(tmp_path):
    # Without a state of its own it would ask for that of the machine.
    ran = checked("logrotate", "-d", "-s", tmp_path / "state", DEPLOY / "logrotate.conf")
    assert (ran.returncode, re.findall(r"^.*error.*$", ran.stderr, re.MULTILINE)) == (0, [])
    assert "rotating pattern: /var/log/online/*.log" in ran.stderr


def test_rsyslog_takes_its_file(tmp_path):
    path = tmp_path / "rsyslog.conf"
    path.write_text(f'global(workDirectory="{tmp_path}")\n{(DEPLOY / "rsyslog.conf").read_text()}')
    ran = checked("rsyslogd", "-N1", "-f", path)
    assert ran.returncode == 0
    assert "rror" not in ran.stderr, ran.stderr
