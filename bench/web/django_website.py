"""The site of test_web.py, in Django: what `django-admin startproject` makes, and a page as that of website.py."""

import subprocess
import sys
from pathlib import Path

from django.http import HttpRequest

SETTINGS = """
import os
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
TEMPLATES[0]["DIRS"] = [BASE_DIR]
if os.environ["ONLINE_URL"]:
    INSTALLED_APPS += ["online_client.django"]
    MIDDLEWARE += ["online_client.django.middleware.OnlineMiddleware"]
    ONLINE_USER = "bench.web.django_website.user"
"""

URLS = """
import os
from django.shortcuts import render
from django.urls import path

template = "telling.html" if os.environ["ONLINE_URL"] else "plain.html"
urlpatterns = [path("topic/<int:topic>", lambda request, topic: render(request, template, {"topic": topic}))]
"""

TELLING = """{% load online %}{% online_users as users %}<h1>Topic {{ topic }}</h1>
<p>{% online_count %} online. On this page:</p>
<ul>{% for viewer in users %}<li>{{ viewer.user }}</li>{% endfor %}</ul>
"""

PLAIN = """<h1>Topic {{ topic }}</h1>
<p> online. On this page:</p>
<ul>{% for viewer in users %}<li>{{ viewer.user }}</li>{% endfor %}</ul>
"""

POSTS = "<ul>" + "".join(f"<li>{{{{ topic }}}}: post {number}</li>" for number in range(200)) + "</ul>"


def user(request: HttpRequest) -> str:
    return request.headers["X-User"]


def make(folder: Path) -> None:
    """Make the site `mysite` in a folder; it tells who is online if ONLINE_URL is not empty."""
    startproject = [sys.executable, "-m", "django", "startproject", "mysite", str(folder)]
    subprocess.run(startproject, check=True)
    settings = folder / "mysite" / "settings.py"
    settings.write_text(settings.read_text() + SETTINGS)
    (folder / "mysite" / "urls.py").write_text(URLS)
    (folder / "telling.html").write_text(TELLING + POSTS)
    (folder / "plain.html").write_text(PLAIN + POSTS)
