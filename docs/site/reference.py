"""The pages of docs/reference, made from the tables of the code: `make reference` writes them anew.

A test holds what is written to what would be. Not here: how verbs answer (docs/protocol.md, whose examples are tested).
"""

import argparse
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any, get_type_hints

from online import errors
from online.cli import main
from online.cli.config import EXAMPLES
from online.core import verbs as verb_table
from online.http import metrics, openapi
from online.http.messages import status_of
from online.http.public import Public
from online.http.questions import questions
from online.serve.loading import shown_default
from online.serve.push import PUBLIC_PAGE
from online.serve.settings import LIMITS, SETTINGS, Setting
from online.serve.verbs_command import command
from online_client.errors import server_error

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"

_NOTE = "<!-- Made from the code by `make reference`. Do not edit. -->"

#: What happens at a limit, where its help does not say it.
AT_LIMIT = {
    "max_connections": "the new connection gets an error and is closed",
    "max_frame": "`PROTO`, then the connection is closed",
    "max_frame_before_auth": "`PROTO`, then the connection is closed",
    "max_items": "`PROTO`, then the connection is closed",
    "max_depth": "`PROTO`, then the connection is closed",
    "max_user": "`RANGE`; in a batch, only that hit is refused",
    "max_url": "`RANGE`; in a batch, only that hit is refused",
    "max_users": "`FULL`; nobody is evicted",
    "max_pages": "`FULL`; nobody is evicted",
    "max_sites": "`FULL`",
    "max_memory": "`FULL`; nobody is evicted",
    "max_limit": "`RANGE`",
    "max_scan": "`RANGE`",
    "max_output": "reading from the connection pauses",
    "max_buffers": "the connection with the most waiting data is closed",
    "send_timeout": "the connection is closed",
    "frame_timeout": "`PROTO`, then the connection is closed",
    "auth_timeout": "`NOAUTH`, then the connection is closed",
    "max_subscriptions": "`FULL`",
    "max_all_subscriptions": "`FULL`",
    "push_interval": "a channel that changes more often sends its newest state",
}

Lines = Iterator[str]


def cell(text: str) -> str:
    """Return text as it stands in a cell of a table."""
    return re.sub(r"([<|*])", r"\\\1", text)


def code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(*heads: str) -> str:
    return f"{row(*heads)}\n{row(*['---'] * len(heads))}"


# Verbs


def verbs() -> Lines:
    """What COMMAND answers of each verb."""
    where = {}
    for heading in re.findall(r"^### (.+)$", (ROOT / "docs" / "protocol.md").read_text(), re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        where |= dict.fromkeys(heading.split(", "), anchor)
    yield "# Verbs"
    yield "Any Redis client can send these; our clients have a method for each that applications need."
    yield "Trailing arguments in brackets are optional; pass `\"\"` to skip one. A link leads to the exact reply, its"
    yield "complexity and an example. Over MessagePack there is also [`hits`](../protocol.md#hits), a batch of hits.\n"
    yield table("verb", "what it does", "since", "writes", "before AUTH")
    documented: Any = command(None, None, [b"DOCS"], 0)  # type: ignore[arg-type]
    described: Any = command(None, None, [b"INFO"], 0)  # type: ignore[arg-type]
    for (name, _, flags, *_), (usage, *_) in zip(described, verb_table.rows(), strict=True):
        known = {str(flag) for flag in flags}
        shown = f"[{code(usage)}](../protocol.md#{where.get(name.upper(), 'what-redis-clients-and-tools-ask')})"
        docs = documented[name]
        yield row(shown, docs["summary"], docs["since"], "yes" * ("write" in known), "yes" * ("no_auth" in known))


# HTTP


def shape(schema: dict[str, Any]) -> str:
    """Return a schema of JSON in short.

    >>> shape({"type": "array", "items": {"type": "integer"}})
    '[integer, ...]'
    """
    if "$ref" in schema:
        return "text"
    if "anyOf" in schema:
        return " or ".join(map(shape, schema["anyOf"]))
    if "enum" in schema:
        return "kind"
    kinds = schema.get("type", "object")
    if kinds == "array":
        return f"[{shape(schema['items'])}, ...]"
    if kinds == "object":
        inner = ", ".join(f'"{name}": {shape(each)}' for name, each in schema.get("properties", {}).items())
        return f"{{{inner or '...'}}}"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def http() -> Lines:
    """The JSON API, as openapi.json has it."""
    public = {level: Public(level, ()) for level in ("count", PUBLIC_PAGE)}
    verb_of = {question.path: question.verb for question in questions()}
    described: Any = openapi.describe(questions())
    yield "# JSON API"
    yield "The same description for tools is at `/openapi.json` of every server, and for people at `/api`. How to call"
    yield "the API, its tokens and its errors: [Dashboard, JSON API and metrics](../http.md). *text* is a string, or"
    yield '`{"base64": "..."}` if it is not UTF-8. *kind* is `member`, `guest`, `hidden` or `bot`.'
    for path, methods in described["paths"].items():
        for method, what in methods.items():
            yield f"\n## {method.upper()} {path}\n"
            yield what["summary"]
            levels = [level for level, each in public.items() if each.may_ask(verb_of.get(path, ""))]
            if path in ("/api/v1/events", "/api/v1/states"):
                levels = list(public)
            if levels:
                yield f"Strangers may ask it with `--public {levels[0]}`."
            yield ""
            yield table("parameter", "", "what it is")
            for each in what["parameters"]:
                need = "required" if each.get("required") else "optional"
                many = ", repeatable" if each["schema"]["type"] == "array" else ""
                yield row(code(each["name"]), need + many, cell(each["description"]))
            media, answer = next(iter(what["responses"]["200"]["content"].items()))
            if "requestBody" in what:
                body = what["requestBody"]["content"]["application/json"]["schema"]
                yield f"\nBody: {' or '.join(code(shape(each)) for each in body.get('oneOf', [body]))}"
            yield f"\nAnswer: {code(shape(answer['schema']) if 'json' in media else media)}"


# Settings and limits


def value(setting: Setting) -> str:
    """The default, or an example in its place."""
    default = shown_default(setting)
    if default:
        return code(default)
    example = EXAMPLES.get(setting.name)
    shown = ", ".join(example) if isinstance(example, list) else example
    return f"not set; an example is {code(shown)}" if shown else "off"


def help_of(setting: Setting) -> str:
    text = cell(setting.help.replace("%%", "%"))
    return text[0].upper() + text[1:]


def grouped(text: str) -> str:
    """Return text with commas in large numbers.

    >>> grouped("1 to 65536")
    '1 to 65,536'
    """
    return re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", text)


def settings() -> Lines:
    yield "# Settings"
    yield "Every setting is a command-line option of `online serve`, an environment variable and a key of a TOML file"
    yield "(`--config FILE`). Options override variables, and variables override the file. [Limits](limits.md) are"
    yield "settings, too."
    for setting in SETTINGS:
        yield f"\n## {setting.name}\n"
        yield f"{help_of(setting)}.\n"
        yield f"- option `{setting.flag}`, variable `{setting.variable}`"
        yield f"- takes {cell(setting.kind.takes)}" + "; can be repeated" * setting.kind.many
        yield f"- default: {value(setting)}"


def limits() -> Lines:
    yield "# Limits"
    yield "Nothing grows without a limit. Each is a setting: `max_users` is the option `--max-users`, the variable"
    yield "`ONLINE_MAX_USERS` and the key `max_users` of the file. `INFO limits` shows how often each was reached.\n"
    yield table("limit", "what it bounds", "default", "takes", "when it is reached")
    for setting in LIMITS:
        default = shown_default(setting) or "75 % of what there is"
        what = re.sub(r" \(default: .*\)", "", help_of(setting))
        yield row(code(setting.name), what, grouped(default), grouped(setting.kind.takes), AT_LIMIT[setting.name])


# Metrics and errors


def metric_rows() -> Lines:
    """All metrics: first those that are not figures of INFO."""
    figures = defaultdict(list)
    for (section, name), (metric, _) in metrics.METRICS.items():
        figures[metric].append(f"{section} {name}")
    for metric in dict.fromkeys([*metrics.LABELS, *figures]):
        name = f"online_{metric.name}" + "_total" * (metric.kind == "counter")
        labels = ", ".join(map(code, metrics.LABELS.get(metric, ())))
        yield row(code(name), metric.kind, labels, cell(metric.help), ", ".join(map(code, figures[metric])))


def metric_page() -> Lines:
    yield "# Metrics"
    yield "What `/metrics` shows, in OpenMetrics. The last column is the figure of `INFO` that the metric shows;"
    yield "[the protocol](../protocol.md#info) explains those. The 100 sites with most people have metrics of"
    yield "their own. A dashboard for Grafana and alerts for Prometheus are in `deploy/`.\n"
    yield table("metric", "type", "labels", "what it is", "`INFO`")
    yield from metric_rows()


#: Errors that no client gets: a command ends with them.
OF_COMMANDS = (errors.ConfigError, errors.StateError)


def error_page() -> Lines:
    drawn = re.findall(r"[├└]── (\w+) +([A-Z]+) +(.+)", inspect.getdoc(errors) or "")
    messages = defaultdict(list)
    for _, function in inspect.getmembers(errors, inspect.isfunction):
        made = get_type_hints(function).get("return")
        if inspect.isclass(made) and issubclass(made, errors.OnlineError) and not issubclass(made, OF_COMMANDS):
            messages[made.code].append((inspect.getdoc(function) or "").partition("\n")[0])
    yield "# Errors"
    yield "The first word of an error is its code. The rest is for people: it names the thing, the limit and the value."
    yield "In RESP an error is `-CODE message`, in MessagePack `[code, message]`, over HTTP a status with the code in"
    yield "`application/problem+json`. The last column is what the Python client raises.\n"
    yield table("code", "raised when", "HTTP", "`online_client`")
    for _, word, when in drawn:
        status = str(status_of(word)).replace("500", "")  # what no request over HTTP gets
        raised = type(server_error(word, "")).__name__
        yield row(code(word), when.removesuffix(" (also a ValueError)"), status, code(raised))
    for _, word, _ in drawn:
        if messages[word]:
            yield f"\n## {word}\n"
            yield from (f"- {each}" for each in messages[word])


# The command line


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"online {name}")
    import_module(main.COMMANDS[name][0]).add_arguments(parser)
    return parser


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def written(action: argparse.Action) -> str:
    """How an argument is given: `--url SERVER`, `[limit]` or `LOG ...`."""
    name = " ".join(action.metavar) if isinstance(action.metavar, tuple) else str(action.metavar or action.dest)
    if isinstance(action, argparse.BooleanOptionalAction):
        return ", ".join(action.option_strings)
    if action.option_strings:
        return ", ".join(action.option_strings) + (f" {name}" if action.nargs != 0 else "")
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(action.nargs), name)


def described(text: str) -> Lines:
    """Paragraphs, and lists or examples as they are."""
    for paragraph in dedent(text).strip().split("\n\n"):
        yield f"```text\n{paragraph}\n```\n" if "\n " in paragraph else f"{cell(paragraph)}\n"


def option_rows(parser: argparse.ArgumentParser, known: frozenset[str]) -> Lines:
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        if group.title in ("settings", "limits"):
            continue
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
                continue
            text = formatter._expand_help(action) if action.help else ""
            if written(action) not in known:
                yield row(code(written(action)), cell(text))


def command_page() -> Lines:
    yield "# Command line"
    yield "`online COMMAND --help` shows the same in a terminal.\n"
    yield table("command", "what it does")
    for name, (_, summary) in main.COMMANDS.items():
        yield row(f"[`online {name}`](#online-{name})", summary)
    yield ""
    yield from described(main.EPILOG.split("\n\n")[1])
    for name in main.COMMANDS:
        parser = parser_of(name)
        yield f"\n## online {name}\n"
        yield from described(parser.description or "")
        rows = list(option_rows(parser, frozenset()))
        if rows:
            yield table("argument or option", "what it is")
            yield from rows
        if any(group.title == "settings" for group in parser._action_groups):
            yield "\nand every [setting](settings.md) and [limit](limits.md) as an option."
        known = frozenset(written(action) for action in parser._actions)
        for verb, sub in subparsers_of(parser).items():
            yield f"\n### online {name} {verb}\n"
            yield from described(sub.description or "")
            its_rows = list(option_rows(sub, known))
            if its_rows:
                yield table("argument or option", "what it is")
                yield from its_rows
        if parser.epilog:
            yield ""
            yield from described(parser.epilog)


PAGES: dict[str, Callable[[], Lines]] = {
    "verbs": verbs,
    "http": http,
    "settings": settings,
    "limits": limits,
    "metrics": metric_page,
    "errors": error_page,
    "command-line": command_page,
}


def page(name: str) -> str:
    """Return a page of the reference."""
    title, *lines = PAGES[name]()
    return "\n".join([_NOTE, "", title, "", *lines]).rstrip() + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in PAGES:
        (FOLDER / f"{each}.md").write_text(page(each))
