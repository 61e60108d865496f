"""The site of test_web.py, in Flask: `plain`, and `telling`, whose pages tell who is online."""

from flask import Flask, render_template_string, request

from online_client.flask import Online

TEMPLATE = """<h1>Topic {{ topic }}</h1>
<p>{{ online_count() }} online. On this page:</p>
<ul>{% for viewer in online_users() %}<li>{{ viewer.user }}</li>{% endfor %}</ul>
<ul>{% for number in range(200) %}<li>post {{ number }}</li>{% endfor %}</ul>"""


def topic(topic: int) -> str:
    return render_template_string(TEMPLATE, topic=topic)


plain = Flask("plain")
plain.add_url_rule("/topic/<int:topic>", view_func=topic)
plain.jinja_env.globals.update(online_count=lambda: "", online_users=lambda: ())

telling = Flask("telling")
telling.config["SECRET_KEY"] = "secret"
telling.add_url_rule("/topic/<int:topic>", view_func=topic)
Online(telling, user=lambda: request.headers["X-User"])
