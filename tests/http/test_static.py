"""The files of the dashboard: safe headers, ETags, gzip, br, and links that hold under any path."""

import gzip
import re
from pathlib import Path

import pytest
from tests.http.browsing import jumping, web

from online.http import static

PAGES = Path(static.__file__).parent / "pages"
NAMES = sorted(path.name for path in PAGES.iterdir())


def path_of(name):
    return {"index.html": "/", "api.html": "/api", "login.html": "/login"}.get(name, f"/{name}")


class Reversing:
    """Stands for the package brotli where that is not installed."""

    @staticmethod
    def compress(plain):
        return plain[::-1]

    @staticmethod
    def decompress(packed):
        return packed[::-1]


UNPACK = {"gzip": gzip.decompress, "br": Reversing.decompress}


@pytest.fixture(params=["br", "gzip"])
def coding(request, monkeypatch):
    """What packs the files: the package brotli if there is one, or gzip alone."""
    monkeypatch.setattr(static, "brotli", Reversing if request.param == "br" else None)
    return request.param


@pytest.mark.parametrize("name", NAMES)
@jumping
async def test_a_file_is_served_in_all_forms(name, coding):
    async with web() as site:
        browser = site.join()
        plain = await browser.get(path_of(name))
        assert (plain.status, plain.body) == (200, (PAGES / name).read_bytes())
        packed = await browser.get(path_of(name), accept_encoding="br, gzip;q=0.8")
        zipped = await browser.get(path_of(name), accept_encoding="br;q=0, gzip")
        if len(plain.body) >= static.PACK_FROM_BYTES:
            assert (packed.headers["content-encoding"], zipped.headers["content-encoding"]) == (coding, "gzip")
            assert UNPACK[coding](packed.body) == plain.body == gzip.decompress(zipped.body)
            assert len({each.headers["etag"] for each in (plain, packed, zipped)}) == (3 if coding == "br" else 2)
        if name != static.WIDGET:  # which pages anywhere may have
            assert "unsafe" not in plain.headers["content-security-policy"]
        assert plain.headers["x-content-type-options"] == "nosniff"
        for answer in (plain, packed, zipped):
            tag = answer.headers["etag"]
            for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                again = await browser.get(path_of(name), if_none_match=known)
                assert (again.status, again.body) == (304, b"")
        assert (await browser.get(path_of(name), if_none_match='"other"')).status == 200


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        *((accepted, True) for accepted in (b"gzip", b"GZIP", b"br, gzip;q=0.5")),
        *((accepted, False) for accepted in (b"gzip;q=0", b"gzip; q=0.00", b"br", b"", b"x-gzip")),
    ],
)
def test_what_is_packed_goes_to_whom_it_is_right_for(accepted, is_taken):
    assert static._takes(accepted, b"gzip") == is_taken


def test_brotli_packs_better_than_gzip(monkeypatch):
    brotli = pytest.importorskip("brotli")
    monkeypatch.setattr(static, "brotli", brotli)
    for file in static.load().values():
        if file.packed:
            assert brotli.decompress(file.packed[b"br"]) == file.plain
            assert len(file.packed[b"br"]) < len(file.packed[b"gzip"])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(name):
    text = (PAGES / name).read_text()
    if name.endswith(".html"):
        assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]* src=)|javascript:", text)
        for link in re.findall(r'(?:href|src|action)="([^"]*)"', text):
            assert not link.startswith(("/", "http")), link
    if name.endswith(".js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        assert not re.search(r"""(fetch|ask)\(["'`]/""", text)
        for module in re.findall(r'from "([^"]*)"', text):
            assert module.removeprefix("./") in NAMES
    assert not re.search(r"(url|@import)\(?['\"]?https?:", text)


def test_the_second_form_of_the_login_shows_its_message():
    files = static.load()
    first, again = files["login.html"].plain, files[static.LOGIN_AGAIN].plain
    assert b'role="alert" hidden>That token is wrong.' in first
    assert b'role="alert">That token is wrong.' in again
    assert len(first.splitlines()) == len(again.splitlines())
