"""Asks whether a fault is known in what is installed with the server: `make audit`, before a release.

pip-audit asks the package index about the newest version of each package, and of those that they need. By itself it
says that it found nothing when the index answered nothing; here that is an error.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

OURS = "online-client"


def requirements() -> list[str]:
    """What the server needs, with every extra for its users, but for what is published with it."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((Path(__file__).parents[1] / "client" / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {*project["dependencies"], *client["dependencies"], *extras["bus"], *extras["kafka"]}
    return sorted(each for each in needed if not each.startswith(OURS))


def judge(found: list[dict[str, Any]]) -> str:
    """What is wrong, a line each; empty if every package was asked about, and none has a known fault."""
    if all("skip_reason" in package for package in found):
        return f"Nothing was looked up: the package index has no data on faults, for none of {len(found)} packages."
    lines = []
    for package in found:
        if "skip_reason" in package:
            lines.append(f"{package['name']}: no data, {package['skip_reason']}")
        for fault in package.get("vulns", []):
            lines.append(f"{package['name']} {package['version']}: {fault['id']}, mended in {fault['fix_versions']}")
    return "\n".join(lines)


def main() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements()))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
        ran = subprocess.run([*command, "--requirement", file.name], capture_output=True, text=True)
    if not ran.stdout:
        sys.exit(f"Nothing was looked up: pip-audit could not run or reach its data.\n{ran.stderr[-2_000:]}")
    found = json.loads(ran.stdout)["dependencies"]
    if wrong := judge(found):
        sys.exit(wrong)
    print(f"No known fault in {len(found)} packages.")


if __name__ == "__main__":
    main()
