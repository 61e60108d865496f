"""What the tests of web frameworks share: servers that fail, websites in processes of their own, and guides."""

import contextlib
import http.cookiejar
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.programs import program
from tests.serving import PATIENCE_S, environment, listens, until

GUIDES = Path(__file__).parent.parent / "docs"

#: Where Debian keeps modules for Node; others are found besides.
NODE_PATH = os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), "/usr/share/nodejs"]))


# Servers that fail


def down_url():
    """The address of a server that is not there."""
    return f"online://127.0.0.1:{free_port()}"


@contextlib.contextmanager
def hanging_url():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as listener:
        yield f"online://127.0.0.1:{listener.getsockname()[1]}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def nginx(folder, inside, *, outside="", tls=False):
    """The port of an nginx: `inside` is in its server block, and `outside`, which says what it logs, beside that."""
    port = free_port()
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{
            client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
            uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
            {outside or "access_log off;"}
            server {{
                listen 127.0.0.1:{port}{" ssl" * tls};
                {inside}
            }}
        }}""")
    popen = subprocess.Popen([program("nginx"), "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        yield port
    finally:
        popen.terminate()
        popen.wait(PATIENCE_S)


# Websites

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


class Browser:
    """Fetches pages and keeps cookies."""

    def __init__(self, site, agent="Mozilla/5.0 Firefox/128.0"):
        self.site = site
        self.agent = agent
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path, form=None, headers=None):
        """Return the text of a page; `form` is posted to it."""
        data = urllib.parse.urlencode(form).encode() if form else None
        asked = urllib.request.Request(self.site + path, data, {"User-Agent": self.agent, **(headers or {})})
        with self._opener.open(asked, timeout=PATIENCE_S) as response:
            return response.read().decode()

    def get_until(self, path, pattern):
        """Fetch a page until its text matches; return the match. What pages show may be a second old."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, text := self.get(path))):
            assert time.monotonic() < deadline_s, text
        return found


def shown_by_chromium(url, folder):
    """Return the document that a real browser shows for a url. It asks for a favicon, too."""
    command = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    # By its own agent it says that it is a robot.
    options = [f"--user-data-dir={folder}/profile", "--user-agent=Mozilla/5.0 (X11; Linux x86_64) Chrome/128"]
    command += [*options, "--dump-dom", url]
    return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=60)


@contextlib.contextmanager
def website(*command, cwd, ready, log=None, **variables):
    """Run the command of a website until its output matches `ready`; its lines are added to the list `log`."""
    popen = subprocess.Popen(
        [*map(str, command)],
        cwd=cwd,
        env=site_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    told = [] if log is None else log
    try:
        for line in popen.stdout:
            told.append(line)
            if found := re.search(ready, line):
                break
        else:
            raise AssertionError(f"it does not start: {''.join(told)}")
        # Or it would wait for a reader of its log.
        drain = threading.Thread(target=drain_into, args=(told, popen.stdout))
        drain.start()
        yield found
        popen.terminate()
        drain.join(PATIENCE_S)
    finally:
        popen.kill()
        popen.wait()
        popen.stdout.close()


def drain_into(told, output):
    with contextlib.suppress(ValueError):  # closed, after a test that failed
        told.extend(output)


def site_environment(**variables):
    """The environment of a website: the programs beside this Python come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return environment(PATH=path, PYTHONUNBUFFERED="1", **{name: str(value) for name, value in variables.items()})


# Middleware


@contextlib.contextmanager
def wrapping(middleware, url, user):
    """Yield `wrap(app, **options)`, which makes middleware for a server; it is closed at the end."""
    made = []

    def wrap(app, **options):
        made.append(middleware(app, url, **{"secret": "s3cret", "user": user, **options}))
        return made[-1]

    yield wrap
    for each in made:
        each.page_views.reporter.close(PATIENCE_S)


def flush(reporting):
    """Send all page views that middleware, or an extension, has to report."""
    assert reporting.page_views.reporter.flush(PATIENCE_S)


# Guides


@dataclass
class Block:
    """A block of code in a guide, and the line that introduces it."""

    introduction: str
    language: str
    text: str

    @property
    def file(self):
        """The file that the block is, or is to be added to: the last name in the introduction."""
        return re.findall(r"`([^`]+)`", self.introduction)[-1]

    def write(self, folder):
        """Write the file, or add to it when the introduction says "at the end"."""
        path = folder / self.file
        before = path.read_text() if "at the end" in self.introduction else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before + self.text)


def blocks(guide):
    """The blocks of a guide in docs/, in their order."""
    text = (GUIDES / guide).read_text()
    found = re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("\n```") / 2
    return [Block(*each) for each in found]


def follow(guide, folder):
    """Do what a guide says, in a folder, up to the command that serves the site: return that, and where to run it.

    What is installed already is not installed again.
    """
    for block in blocks(guide):
        if block.language != "sh":
            block.write(folder)
            continue
        *lines, last = block.text.splitlines()
        for line in [*lines, last]:
            if line.startswith(("pip install", "npm install", "gem install", "apt-get install")):
                continue
            if line.startswith("cd "):
                folder /= line.removeprefix("cd ")
            elif line == last and "8000" in line:
                return line, folder
            else:
                subprocess.run(line, shell=True, check=True, cwd=folder, env=site_environment(), timeout=60)
    raise AssertionError(f"{guide} does not say how to serve the site")
