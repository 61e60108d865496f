"""Links in the documents lead to a file and a heading. What the protocol and the reference say is so."""

import inspect
import json
import re
import shlex
import socket
from pathlib import Path

import pytest
from docs.site import reference
from docs.site.conf import NAVIGATION
from tests.cli.test_verbs_agree import MADE, NOT_ASKED, SERVER
from tests.serving import server_process
from tests.wiring import RespError, read_pack, read_resp, request, resp

from online.cli import main
from online.serve.settings import LIMITS
from online_client import Client
from online_client import verbs as client_verbs

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "client" / "README.md"]

#: Code may hold what looks like a link.
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")


def anchors(document):
    """What links to headings of a document end with."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    links = LINK.findall(CODE.sub("", document.read_text()))
    for link in links:
        if ":" in link:
            continue  # of the web
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_front_door_sets_nginx_up_as_its_guide_does():
    [block] = re.findall(r"^```\n(log_format .*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block in (ROOT / "docs" / "nginx.md").read_text()


def test_every_page_can_be_reached_from_the_front_door():
    found, left = set(), [ROOT / "README.md"]
    while left:
        document = left.pop()
        if document not in found and document.suffix == ".md":
            found.add(document)
            links = LINK.findall(CODE.sub("", document.read_text()))
            left += [(document.parent / link.partition("#")[0]).resolve() for link in links if ":" not in link]
    assert set(DOCUMENTS) - found == {ROOT / "CODE_OF_CONDUCT.md"}


def test_every_page_is_in_the_menu_of_the_site():
    pages = {ROOT / f"{name}.md" for names in NAVIGATION.values() for name in names.split()}
    assert set(DOCUMENTS) - pages == {ROOT / "README.md"}


# Commands

#: A command in a block, and what the shell takes of it.
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:\S+/)?online ([a-z].*?)(?: [|>&].*)?$", re.MULTILINE)


def test_the_commands_of_the_documents_are_taken_as_they_stand():
    text = "\n".join(document.read_text() for document in DOCUMENTS).replace("\\\n", "")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [*COMMAND.findall("\n".join(blocks)), *re.findall(r"`online (query [a-z][^`\n]*)`", text)]
    assert len(lines) > 50
    for command, *rest in (shlex.split(line, comments=True) for line in lines):
        assert main.parser_of(command).parse_args([command, *rest]).command == command, rest


# The reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name):
    written = (reference.FOLDER / f"{name}.md").read_text()
    assert reference.page(name) == written, f"docs/reference/{name}.md is not what the code says: make reference"


#: Where a module gives an error its code.
CODE_OF_ERROR = re.compile(r"\bcode(?:: str)? = \"([A-Z]+)\"|\bproblem\(\s*\d+, \"([A-Z]+)\"")


def test_the_reference_has_every_code_of_an_error():
    modules = "".join(path.read_text() for path in (ROOT / "src" / "online").rglob("*.py"))
    given = {one or other for one, other in CODE_OF_ERROR.findall(modules)}
    listed, explained = (
        set(re.findall(r"^\| `([A-Z]+)` \|", (ROOT / "docs" / name).read_text(), re.MULTILINE))
        for name in ("reference/errors.md", "protocol.md")
    )
    assert listed == given <= explained


def test_the_reference_says_what_happens_at_each_limit():
    assert set(reference.AT_LIMIT) == {setting.name for setting in LIMITS}


# The protocol: its tables are those of the server and of the client, and its examples are what a server answers.

PROTOCOL = ROOT / "docs" / "protocol.md"

def usages_of(document):
    """The usages in the first column of the table of verbs of a document, by verb."""
    section = document.read_text().partition("\n## Verbs\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[A-Z].*?`) \|", section, re.MULTILINE)
    return {usage.split()[0]: usage for cell in cells for usage in re.findall(r"`([^`]+)`", cell)}


def wire_names(verb):
    """The arguments of a verb of the client, by the names that they have on the wire."""
    on_the_wire = {"within": "within_s", "urls": "url", "users": "user"}
    on_the_wire |= {"since": "since_ms", "from_": "from_ms", "to": "to_ms", "step": "step_s"}
    return [on_the_wire.get(each, each) for each in inspect.signature(getattr(client_verbs, verb.lower())).parameters]


def test_the_verbs_of_the_front_door_are_those_of_the_protocol():
    section = (ROOT / "README.md").read_text().partition("\n## Ask it\n")[2].partition("\n## ")[0]
    listed = {usage.split()[0]: usage for usage in re.findall(r"^\| `([A-Z].*?)` \|", section, re.MULTILINE)}
    assert len(listed) > 5
    described = usages_of(PROTOCOL)
    assert {verb: described[verb] for verb in listed} == listed


def test_the_protocol_has_the_verbs_of_the_server():
    assert set(usages_of(PROTOCOL)) == set(SERVER)


def test_the_protocol_has_the_verbs_of_the_client():
    described = usages_of(PROTOCOL)
    functions = {name.upper() for name, _ in inspect.getmembers(client_verbs, inspect.isfunction)}
    assert {name for name in functions if hasattr(Client, name.lower())} == (set(described) - NOT_ASKED) | MADE
    for verb in set(described) - NOT_ASKED - {"PING", "TIME"}:  # whose arguments the client does not need
        arguments = dict.fromkeys(re.findall(r"[a-z_]+", described[verb].partition(" ")[2]))
        assert wire_names(verb) == list(arguments), verb


@pytest.fixture
def talk():
    """A connection to a server that nobody else has used."""
    with server_process() as server, socket.create_connection(("127.0.0.1", server.port)) as talk:
        talk.settimeout(10)
        yield talk


def told(talk, message, read):
    """Send a message and return its one reply; `read` gives all the replies in some bytes, or fails."""
    talk.sendall(message)
    data = b""
    while True:
        received = talk.recv(65536)
        assert received, f"closed after {data!r}"
        data += received
        try:
            [reply] = read(data)
        except (AssertionError, ValueError):
            continue
        return reply


def read_replies(data):
    assert data.endswith(b"\r\n")
    return read_resp(data)


@pytest.mark.parametrize("usage", usages_of(PROTOCOL).values())
def test_a_usage_in_the_protocol_is_the_server_s(talk, usage):
    verb, _, arguments = usage.partition(" ")
    too_many = [] if (arguments and not arguments.startswith("[")) or verb == "UNSUBSCRIBE" else ["x"] * 20
    reply = told(talk, resp(verb, *too_many), read_replies)
    if isinstance(reply, RespError) and "wrong number of arguments" in reply:
        assert reply == f"ERR wrong number of arguments for {verb}: {len(too_many)}; usage: {usage}"
    else:
        assert verb in ("QUIT", "COMMAND", "UNSUBSCRIBE")


def examples():
    """The examples of the protocol: a command and the line that answers it."""
    blocks = re.findall(r"^```\n(> .*?)^```", PROTOCOL.read_text(), re.MULTILINE | re.DOTALL)
    return [tuple(each.rstrip("\n").split("\n")) for block in blocks for each in block.split("> ")[1:]]


def expected(line, version):
    """What a reply looks like that an example shows, in a dialect (0: MessagePack)."""
    try:
        reply = json.loads(line)
    except ValueError:
        return RespError(line)
    if isinstance(reply, dict) and version == 2:
        return [item for pair in reply.items() for item in pair]
    return reply


def without_chance(reply):
    """A reply with a word in place of what differs from run to run: times, and the text of cursors."""
    if isinstance(reply, RespError):
        return reply
    if isinstance(reply, bytes):
        return without_chance(reply.decode())
    if isinstance(reply, list):
        return [without_chance(item) for item in reply]
    if isinstance(reply, dict):
        return {without_chance(key): without_chance(value) for key, value in reply.items()}
    if isinstance(reply, int) and reply > 10**12:
        return "a time"
    if isinstance(reply, str) and re.fullmatch(r"[0-9a-f]+-[0-9a-f]+\.[0-9a-f]{16}", reply):
        return "a cursor"
    return reply


@pytest.mark.parametrize("version", [2, 3, 0])
def test_the_examples_of_the_protocol_are_what_a_server_answers(talk, version):
    assert len(examples()) > 30
    if version:
        told(talk, resp("HELLO", version), read_replies)
    for number, (command, line) in enumerate(examples()):
        words = shlex.split(command)
        if version:
            reply = told(talk, command.encode() + b"\r\n", read_replies)
        else:
            msgid, error, result = told(talk, request(*words, msgid=number), read_pack)
            assert msgid == number
            reply = result if error is None else error
        assert without_chance(reply) == without_chance(expected(line, version)), command


# Files and folders that the documents of the code name are there.

HOUSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/performance.md")]
PATH = re.compile(r"`((?:src/online|client/src|ext|tests|bench|docs|core|serve|logs|keep|cli)/[\w./*-]*)`")


@pytest.mark.parametrize("document", HOUSE, ids=lambda path: path.name)
def test_files_that_are_named_are_there(document):
    for path in PATH.findall(document.read_text()):
        where = ROOT if (ROOT / path.split("/")[0]).exists() else ROOT / "src" / "online"
        if path not in ("ext/NAME.pyx", "src/online/core/NAME.pxd", "ext/core.html"):
            assert list(where.glob(path)), path


def test_modules_in_the_picture_are_there():
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    named = re.findall(r"^│ ([a-z]+(?:, [a-z]+)*)  +\S.*?(?:  ([a-z]+)  +\S.*)?│", picture, re.MULTILINE)
    modules = {each for names, other in named for each in [*names.split(", "), other] if each}
    assert {"reactor", "connection", "resp", "verbs", "core", "ahead", "table", "arena"} <= modules
    for module in modules - {"streams"}:
        assert (ROOT / "ext" / f"{module}.pyx").exists(), module
