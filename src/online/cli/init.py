"""`online init`: writes a file with all settings of a server, explained, to begin with.

Not here: which settings there are (serve/settings), and what holds in the end (config).
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from textwrap import wrap

from online.cli.config import EXAMPLES, check, default, is_secret, plain, toml
from online.errors import ConfigError
from online.serve import loading
from online.serve.loading import Given
from online.serve.settings import BY_NAME, LIMITS, SETTINGS, Setting

STDOUT = "-"

#: How wide lines of a file are, at most, but for values.
WIDTH = 100

_DESCRIPTION = """\
Write a file that lists every setting with its default, explained and commented out. Settings given as options (or in
--config) are written uncommented. An existing file is left as it is."""

_EXAMPLES = """\
examples:
  online init                          write online.toml
  online init /etc/online/online.toml --window 1h --state /var/lib/online/state
  online config --config online.toml   check it, and show what holds
  online serve --config online.toml    use it"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online init`."""
    parser.usage = "online init [FILE] [OPTION ...]"
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    what = "the file, or - for standard output (default: online.toml)"
    parser.add_argument("file", metavar="FILE", nargs="?", default="online.toml", help=what)
    loading.add_arguments(parser)


def run(args: Namespace) -> int:
    """Write the file. Returns 0. Raises ConfigError if it exists, or for settings that are wrong."""
    check(args, {})
    given = loading.gather(vars(args), {})
    text = "".join(f"{line}\n" for line in template(given))
    if args.file == STDOUT:
        sys.stdout.write(text)
        return 0
    mode = 0o600 if any(is_secret(BY_NAME[name], each.value) for name, each in given.items()) else 0o666
    try:
        descriptor = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{args.file} exists already, and is left as it is") from None
    except OSError as error:
        raise ConfigError(f"cannot write {args.file}: {error.strerror}") from None
    print(f"Wrote {args.file}. Edit it, then check it with: online config --config {args.file}")
    return 0


def template(given: Mapping[str, Given]) -> Iterator[str]:
    """Yield the lines of a file with each setting, explained; commented out are those not `given`."""
    yield "# Settings of an online server. Remove the # before a setting to change it."
    yield "# Options and variables (ONLINE_WINDOW for window) override this file."
    yield "# To check it and see what holds: online config --config FILE"
    for title, settings in (("Settings", SETTINGS), ("Limits", LIMITS)):
        yield ""
        yield ""
        yield f"# {title}"
        for setting in settings:
            yield ""
            yield from (f"# {line}" for line in wrap(described(setting), WIDTH - 2))
            if setting.name in given:
                yield f"{setting.name} = {toml(plain(setting, given[setting.name].value))}"
            else:
                yield f"#{setting.name} = {toml(default(setting))}"


def described(setting: Setting) -> str:
    """Say what a setting does, what it takes, and whether what is shown is only an example.

    >>> described(BY_NAME["state"]).rpartition(". Takes ")[2]
    'the path of a directory. Not set by default.'
    """
    text = setting.help.replace("%%", "%")
    takes = f"a list, each {setting.kind.takes}" if setting.kind.many else setting.kind.takes
    unset = " Not set by default." if setting.name in EXAMPLES else ""
    return f"{text[0].upper()}{text[1:]}. Takes {takes}.{unset}"
