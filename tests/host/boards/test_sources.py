"""Pinned sources: where they are looked for, and that only the right bytes are taken."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from handfast.boards.addresses import Address
from handfast.boards.apt_mirrors import AptConfiguration
from handfast.boards.sources import Source, cache_dir, fetch, find_source
from handfast.errors import EnvironmentProblem

CONTENT = b"the archive" * 1000


@contextmanager
def web_server(
    files: dict[str, bytes], *, cut_short: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Serve ``files`` by path; yields the URL and the list of paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content:
                self.wfile.write(content[: len(content) // 2] if cut_short else content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def apt_with(folder: Path, *uris: str) -> AptConfiguration:
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list").write_text("".join(f"deb {uri} bookworm main\n" for uri in uris))
    (folder / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return AptConfiguration(etc_apt=folder, os_release=folder / "os-release")


def pinned(*urls: str) -> Source:
    return Source(
        name="thing",
        version="1",
        file="thing.tar.xz",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        pool="main/t/thing",
        urls=tuple(map(Address.parse, urls)),
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HANDFAST_SOURCES", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def no_apt(tmp_path: Path) -> AptConfiguration:
    return apt_with(tmp_path / "no-apt")


def left_in_cache() -> list[str]:
    return sorted(path.name for path in (cache_dir() / "sources").iterdir())


def test_the_named_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_apt: AptConfiguration
) -> None:
    (tmp_path / "thing.tar.xz").write_bytes(CONTENT)
    monkeypatch.setenv("HANDFAST_SOURCES", str(tmp_path))
    assert fetch(pinned(), apt=no_apt) == tmp_path / "thing.tar.xz"


def test_a_wrong_file_in_the_folder_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_apt: AptConfiguration
) -> None:
    (tmp_path / "thing.tar.xz").write_bytes(b"other")
    monkeypatch.setenv("HANDFAST_SOURCES", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=rf"{tmp_path}/thing.tar.xz is not the file.*"):
        fetch(pinned(), apt=no_apt)


def test_the_apt_mirror_is_asked_and_the_file_is_kept(tmp_path: Path) -> None:
    with web_server({"/debian/pool/main/t/thing/thing.tar.xz": CONTENT}) as (url, asked):
        apt = apt_with(tmp_path / "apt", f"{url}/debian/")
        assert fetch(pinned(), apt=apt).read_bytes() == CONTENT
        assert fetch(pinned(), apt=apt).read_bytes() == CONTENT
        assert len(asked) == 1
    assert left_in_cache() == ["thing.tar.xz"]


def test_a_mirror_whose_password_is_not_encoded_is_told_without_it(tmp_path: Path) -> None:
    apt = apt_with(tmp_path / "apt", "http://ada:pa/ss@127.0.0.1:9/debian")
    with pytest.raises(
        EnvironmentProblem, match=r" http://127\.0\.0\.1:9/debian has an @ "
    ) as told:
        fetch(pinned(), apt=apt)
    assert "pa/ss" not in str(told.value)
    with web_server({"/thing.tar.xz": CONTENT}) as (url, _):
        assert fetch(pinned(f"{url}/thing.tar.xz"), apt=apt).read_bytes() == CONTENT


def test_the_next_place_is_asked_when_one_has_nothing(tmp_path: Path) -> None:
    with web_server({"/release/1": CONTENT}) as (url, asked):
        apt = apt_with(tmp_path / "apt", f"{url}/debian")
        assert fetch(pinned(f"{url}/release/1"), apt=apt).read_bytes() == CONTENT
    assert asked == ["/debian/pool/main/t/thing/thing.tar.xz", "/release/1"]


def test_wrong_bytes_from_a_mirror_are_an_error_and_are_not_kept(tmp_path: Path) -> None:
    with web_server({"/debian/pool/main/t/thing/thing.tar.xz": b"other"}) as (url, _):
        apt = apt_with(tmp_path / "apt", f"{url}/debian")
        with pytest.raises(EnvironmentProblem, match=r"/thing.tar.xz is not the file"):
            fetch(pinned(), apt=apt)
    assert left_in_cache() == []


def test_a_download_that_ends_early_is_not_kept(no_apt: AptConfiguration) -> None:
    with (
        web_server({"/1": CONTENT}, cut_short=True) as (url, _),
        pytest.raises(EnvironmentProblem, match="the connection ended after"),
    ):
        fetch(pinned(f"{url}/1"), apt=no_apt)
    assert left_in_cache() == []


def test_a_damaged_file_in_the_cache_is_fetched_again(no_apt: AptConfiguration) -> None:
    (cache_dir() / "sources").mkdir()
    (cache_dir() / "sources" / "thing.tar.xz").write_bytes(b"damaged")
    (cache_dir() / "sources" / ".thing.tar.xz.left.part").write_bytes(b"half")
    with web_server({"/1": CONTENT}) as (url, _):
        assert fetch(pinned(f"{url}/1"), apt=no_apt).read_bytes() == CONTENT
    assert left_in_cache() == ["thing.tar.xz"]


def test_when_no_place_has_it_all_are_named_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_SOURCES", str(tmp_path / "sources"))
    with web_server({}) as (url, _):
        apt = apt_with(tmp_path / "apt", f"{url}/debian")
        with pytest.raises(EnvironmentProblem) as caught:
            fetch(pinned(f"{url}/1", "http://127.0.0.1:1/x"), apt=apt)
    message = str(caught.value)
    for part in (
        f"{tmp_path}/sources/thing.tar.xz: no such file",
        f"{url}/debian/pool/main/t/thing/thing.tar.xz: HTTP 404",
        f"{url}/1: HTTP 404",
        "http://127.0.0.1:1/x: ",
        "set HANDFAST_SOURCES",
        hashlib.sha256(CONTENT).hexdigest(),
    ):
        assert part in message


def test_a_version_that_is_not_pinned_is_told_with_those_that_are() -> None:
    with pytest.raises(EnvironmentProblem, match=r"micropython 1\.2.*1\.26\.1"):
        find_source("micropython", "1.2")


# ---- apt's configuration ----


def test_mirrors_are_read_from_both_formats_and_others_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    (tmp_path / "sources.list").write_text(
        "# deb http://commented/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one-line/debian bookworm main contrib # x\n"
        "deb http://third.party/apt cloud-bookworm main\n"
        "deb http://no-main/docker bookworm stable\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "broken\n"
    )
    (folder / "a.list").write_text("deb-src https://list/debian/ bookworm main\n")
    (folder / "b.sources").write_text(
        "Types: deb\n# a comment\nURIs: http://first/debian\n http://second/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://security/debian-security\nSuites: bookworm-security\n"
        "Components: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://disabled/debian\nSuites: bookworm\n"
        "Components: main\n"
    )
    assert AptConfiguration(tmp_path, tmp_path / "os-release").mirrors() == [
        "http://one-line/debian",
        "https://list/debian",
        "http://first/debian",
        "http://second/debian",
    ]


def test_a_machine_without_apt_has_no_mirrors(tmp_path: Path) -> None:
    assert AptConfiguration(tmp_path / "none", tmp_path / "none").mirrors() == []
