"""deploy/Containerfile: it builds, and what it builds serves as a user who may write nowhere but to its state.

There may be no registry to take Python from. So the base image is empty, and Python is this machine's, mounted.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests import packaging

from online_client import Client

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()

TOKEN = "of-the-container-16-bytes"

def where_pip_looks():
    """The folders of this machine that pip's settings name, and the one of the settings."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    named = re.findall(r"""(?:file://|['\s])(/[^'\s]+)""", listed.stdout)
    return sorted({path for path in (*named, str(Path.home() / ".config")) if Path(path).is_dir()})


#: What the image has of the machine, which nobody in it may write to.
MOUNTS = ["/usr", "/etc", *where_pip_looks()]

needs_buildah = pytest.mark.skipif(
    shutil.which("buildah") is None or os.geteuid() != 0, reason="buildah, or root, is not there"
)


def instructions():
    """The instructions of the file, by their first words; of the last stage alone."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    last = text[text.rindex("\nFROM ") :]
    found = {}
    for line in filter(None, last.splitlines()):
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest.strip())
    return found


def test_the_image_has_no_root_no_build_tools_and_a_health_check():
    found = instructions()
    assert found["FROM"] == ["${PYTHON}"]
    assert "RUN" not in found
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", *found["USER"])
    assert "/healthz" in found["HEALTHCHECK"][0]
    assert found["ENTRYPOINT"] == ['["online"]']
    assert json.loads(found["CMD"][0]) == ["serve", "--state", f"{found['VOLUME'][0]}/state"]


def test_the_containers_of_compose_are_as_closed_as_the_documents_say():
    compose, told = (DEPLOY / "compose.yaml").read_text(), (ROOT / "docs" / "containers.md").read_text()
    assert "read_only: true" in compose
    assert "cap_drop: [ALL]" in compose
    assert "--read-only --cap-drop all" in told
    assert "--read-only --cap-drop all" in CONTAINERFILE


class Buildah:
    """buildah with a store of its own, without namespaces or an overlay."""

    def __init__(self, folder):
        self.folder = folder
        self.command = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self.environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}

    def __call__(self, *arguments, cwd=None):
        ran = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    """A container of the image, and what runs commands in it. Its packages are wheels, which are built but once."""
    packages = packaging.built()
    if not packages:
        pytest.skip("this is no repository, so which files belong to it is not known")
    context = tmp_path_factory.mktemp("context")
    for _, wheel in packages.values():
        shutil.copy(wheel, context)
    buildah = Buildah(tmp_path_factory.mktemp("buildah"))
    base = buildah.folder / "base"
    for name in ("usr", "etc", "tmp", "var/lib", "proc", "dev", "sys", "run", "root", "opt"):
        (base / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (base / name).symlink_to(f"usr/{name}")
    (base / "tmp").chmod(0o1777)
    (buildah.folder / "Base").write_text("FROM scratch\nCOPY base /\n")
    buildah("bud", "-q", "-t", "localhost/base", "-f", "Base", ".")
    mounts = [word for path in MOUNTS for word in ("--volume", f"{path}:{path}:ro")]
    arguments = [f"--build-arg={name}=localhost/base" for name in ("BUILDER", "PYTHON")]
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    variables = [f"--env={name}={value}" for name, value in pip.items()]
    names = {project: f"/src/{wheel.name}" for project, (_, wheel) in packages.items()}
    arguments.append(f"--build-arg=PACKAGES={names['online-client']} {names['online']}[bus]")
    options = [*mounts, *arguments, *variables, "-t", "localhost/online", "-f", DEPLOY / "Containerfile"]
    buildah("bud", "-q", *options, ".", cwd=context)
    made = buildah("from", "localhost/online")
    yield buildah, [*buildah.command, "run", *mounts], made
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@needs_buildah
@pytest.mark.xdist_group("packages")
def test_what_is_built_serves_and_is_healthy(container):
    buildah, run, made = container
    config = json.loads(buildah("inspect", "--type", "container", made))["OCIv1"]["config"]
    assert config["User"] == "8989:8989"
    options = ["--env=ONLINE_LISTEN=127.0.0.1:0", "--env=ONLINE_HTTP=127.0.0.1:0", f"--env=ONLINE_TOKEN={TOKEN}"]
    command = [*run, *options, made, "--", *config["Entrypoint"], *config["Cmd"]]
    log, pid = "", None
    with subprocess.Popen(command, env=buildah.environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            while not (told := re.search(r" listens on 127\.0\.0\.1:(\d+)", log)):
                line = server.stderr.readline()
                assert line, log
                log += line
            with Client(f"online://:{TOKEN}@127.0.0.1:{told[1]}") as client:
                client.hit("ada", "/a")
                assert client.count() == 1
                pid = int(client.info()["Server"]["process_id"])
            assert "Uid:\t8989\t8989" in Path(f"/proc/{pid}/status").read_text()
            check = re.search(r'"(from urllib.*?)"\]', CONTAINERFILE)[1]
            port = re.search(r"API at http://127\.0\.0\.1:(\d+)", log)[1]
            healthy = [*run, made, "--", "python3", "-c", check.replace("8990", port)]
            subprocess.run(healthy, env=buildah.environment, check=True, timeout=60)
            os.kill(pid, 15)
            assert server.wait(60) == 0
        finally:
            if server.poll() is None and pid is not None:  # which buildah does not end by itself
                os.kill(pid, 9)
            server.kill()
    kept = [*run, made, "--", "online", "state", "check", "/var/lib/online/state"]
    checked = subprocess.run(kept, env=buildah.environment, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


@needs_buildah
@pytest.mark.xdist_group("packages")
def test_the_user_of_the_image_can_write_to_its_state_alone(container):
    buildah, run, made = container
    places = ["/", "/opt", "/opt/online", "/etc", "/usr", "/var", "/var/lib", "/var/lib/online"]
    look = f"import os; print(*[place for place in {places} if os.access(place, os.W_OK)])"
    command = [*run, made, "--", "python3", "-c", look]
    ran = subprocess.run(command, env=buildah.environment, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["/var/lib/online"], ran.stderr
