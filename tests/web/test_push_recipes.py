"""The recipes of docs/push.md for Starlette and Django Channels, as they are written, tell browsers of changes."""

import json
import re
import subprocess
import sys
import urllib.request

from tests.serving import PATIENCE_S
from tests.websites import GUIDES, site_environment, website

#: Runs the consumer and the command of the guide in one loop, as the layer in memory wants it. What a browser is told
#: is printed; each line of the input is a user who comes.
CHANNELS = """
import asyncio, json, os, sys

import django
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings

LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
settings.configure(INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": LAYER})
django.setup()

from consumers import OnlineConsumer
from online_client import AsyncClient
from watch_online import Command


async def main():
    browser = ApplicationCommunicator(OnlineConsumer.as_asgi(), {"type": "websocket", "path": "/"})
    await browser.send_input({"type": "websocket.connect"})
    assert (await browser.receive_output(PATIENCE_S))["type"] == "websocket.accept"
    watching = asyncio.create_task(sync_to_async(Command().handle, thread_sensitive=False)())
    async with AsyncClient() as client:
        for user in (None, "ada", "theo"):
            if user:
                await client.hit(user, "/")
            print((await browser.receive_output(PATIENCE_S))["text"], flush=True)
    os._exit(0)  # the command watches for ever


PATIENCE_S = float(sys.argv[1])
asyncio.run(main())
"""


def recipe(pattern):
    """The text of the one block of the guide in which `pattern` is found."""
    texts = re.findall(r"^```python\n(.*?)^```$", (GUIDES / "push.md").read_text(), re.MULTILINE | re.DOTALL)
    [found] = [text for text in texts if re.search(pattern, text)]
    return found


def test_the_recipe_for_starlette_tells_each_browser(url, client, tmp_path):
    (tmp_path / "app.py").write_text(recipe(r"starlette\.applications"))
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
    with website(*command, cwd=tmp_path, ready=r"running on (http://127\.0\.0\.1:\d+)", ONLINE_URL=url) as found:
        browsers = [urllib.request.urlopen(f"{found[1]}/people", timeout=PATIENCE_S) for _ in range(2)]
        for user, people in ((None, 0), ("ada", 1), ("theo", 2)):
            if user is not None:
                client.hit(user, "/")
            for browser in browsers:
                assert [browser.readline(), browser.readline()] == [b"data: %d\n" % people, b"\n"]
        for browser in browsers:
            assert browser.headers["content-type"].startswith("text/event-stream")
            browser.close()


def test_the_recipe_for_channels_tells_a_browser(url, tmp_path):
    (tmp_path / "consumers.py").write_text(recipe("AsyncJsonWebsocketConsumer"))
    (tmp_path / "watch_online.py").write_text(recipe("BaseCommand"))
    (tmp_path / "main.py").write_text(CHANNELS)
    told = subprocess.run(
        [sys.executable, "main.py", str(PATIENCE_S)],
        cwd=tmp_path, env=site_environment(ONLINE_URL=url), capture_output=True, text=True, timeout=3 * PATIENCE_S,
    )  # fmt: skip
    assert [json.loads(line) for line in told.stdout.splitlines()] == [{"people": n} for n in (0, 1, 2)], told.stderr
