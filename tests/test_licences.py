"""What is installed with `online` is listed in docs/releasing.md, and its licences let everybody use and pass it on."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parents[1] / "docs" / "releasing.md"

#: Licences that ask for no more than their own text. MPL asks for changes of its own files, too.
PERMISSIVE = {"MIT", "BSD", "Apache", "ISC", "PSF", "MPL"}

WORDS = {"Python Software Foundation": "PSF", "Mozilla": "MPL"}


def licences_of(name):
    """Return the licences that a distribution names, in short."""
    found = distribution(name)
    metadata = found.metadata
    classifiers = [each for each in metadata.get_all("Classifier", []) if each.startswith("License")]
    told = metadata.get("License-Expression") or " ".join([*classifiers, metadata.get("License") or ""])
    if not told.strip():  # the first words of its file must do
        told = "".join(each.read_text()[:40] for each in found.files or () if each.name.startswith("LICENSE"))
    for words, short in WORDS.items():
        told = told.replace(words, short)
    return {each for each in PERMISSIVE if re.search(rf"\b{each}\b", told)}


def closure(name, extras=()):
    """Return all distributions that installing one brings on this version of Python, by their names."""
    found, left = set(), [(name, tuple(extras))]
    while left:
        name, extras = left.pop()
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": each}) for each in ("", *extras)):
                short = canonicalize_name(wanted.name)
                if short not in found:
                    found.add(short)
                    left.append((short, tuple(wanted.extras)))
    return found - {"online-client"}


def listed():
    rows = re.findall(r"^\| ([\w-]+) \| ([\w, ]+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: set(licences.split(" or ")) for name, licences, _ in rows}


INSTALLED = sorted(closure("online", ["bus", "kafka"]))


def test_everything_that_is_installed_is_listed():
    assert set(INSTALLED) <= set(listed())


@pytest.mark.parametrize("name", INSTALLED)
def test_the_licence_is_permissive_and_the_one_that_is_listed(name):
    found = licences_of(name)
    assert found, f"{name} names no licence that is known"
    assert listed()[name] <= found
