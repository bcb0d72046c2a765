"""Packages of a package-lock.json: which of them, from where, and only the right bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from handfast.boards import npm_packages
from handfast.boards.npm_packages import install, read_lock
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

LOCK = boards_dir() / "rp2040" / "emulator" / "package-lock.json"


def tarball() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("package/dist/index.js")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"code"))
    return out.getvalue()


TARBALL = tarball()
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()


def lock_of(folder: Path, **packages: dict[str, object]) -> Path:
    entries = {f"node_modules/{place}": entry for place, entry in packages.items()}
    path = folder / "package-lock.json"
    path.write_text(json.dumps({"lockfileVersion": 3, "packages": {"": {}, **entries}}))
    return path


@contextmanager
def registry(
    monkeypatch: pytest.MonkeyPatch, path: str, content: bytes, user: str = ""
) -> Iterator[list[str]]:
    """A registry that wants this ``user:password``; gives the paths that it was asked for."""
    asked: list[str] = []
    wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.headers.get("Authorization") == wanted
            self.send_response((200 if self.path == path else 404) if known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        host = f"127.0.0.1:{server.server_port}"
        named = f"{quote(user, safe=':')}@{host}" if user else host
        monkeypatch.setenv("npm_config_registry", f"http://{named}/npm/")
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HANDFAST_SOURCES", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_emulators_lock_names_no_host_and_pins_every_package_by_sha512() -> None:
    text = LOCK.read_text()
    assert "http" not in text.replace("https://opencollective", "")
    packages = {package.name: package for package in read_lock(LOCK, dev=True)}
    assert {"rp2040js", "typescript", "@types/node"} < packages.keys()
    assert packages["rp2040js"].version == "1.4.1"
    assert all(len(package.sha512) == 128 for package in packages.values())
    assert "typescript" not in {package.name for package in read_lock(LOCK)}


def test_a_package_for_another_machine_is_left_out(tmp_path: Path) -> None:
    own = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    entry = {"version": "1.0.0", "integrity": INTEGRITY}
    lock = lock_of(
        tmp_path,
        fits={**entry, "cpu": own, "os": [sys.platform]},
        other_cpu={**entry, "cpu": ["mips"]},
        other_os={**entry, "os": "sunos"},
    )
    assert [package.place for package in read_lock(lock)] == ["fits"]


@pytest.mark.usefixtures("own_cache")
def test_a_scoped_package_comes_from_the_registry_that_npm_is_set_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path, **{"@scope/thing": {"version": "2.1.0", "integrity": INTEGRITY}})
    with registry(monkeypatch, "/npm/@scope/thing/-/thing-2.1.0.tgz", TARBALL) as asked:
        for _ in range(2):
            install(read_lock(lock), tmp_path / "node_modules")
    assert asked == ["/npm/@scope/thing/-/thing-2.1.0.tgz"]
    made = tmp_path / "node_modules" / "@scope" / "thing" / "dist" / "index.js"
    assert made.read_bytes() == b"code"


@pytest.mark.usefixtures("own_cache")
def test_a_tarball_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path, thing={"version": "1.0.0", "integrity": INTEGRITY})
    with (
        registry(monkeypatch, "/npm/thing/-/thing-1.0.0.tgz", TARBALL + b"x"),
        pytest.raises(EnvironmentProblem, match=r"is not the file that thing 1\.0\.0"),
    ):
        install(read_lock(lock), tmp_path / "node_modules")
    assert not (tmp_path / "node_modules").exists()


@pytest.mark.usefixtures("own_cache")
def test_a_registry_is_given_its_password_and_nobody_is_shown_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, user = "/npm/thing/-/thing-1.0.0.tgz", "ada:pass/w@rd"
    good = lock_of(tmp_path, thing={"version": "1.0.0", "integrity": INTEGRITY})
    with registry(monkeypatch, path, TARBALL, user=user):
        install(read_lock(good), tmp_path / "node_modules")
    assert (tmp_path / "node_modules" / "thing").is_dir()
    told = []
    other = lock_of(tmp_path, thing={"version": "1.0.1", "integrity": INTEGRITY})
    with registry(monkeypatch, path, TARBALL, user=user):  # 404
        with pytest.raises(EnvironmentProblem, match=r"HTTP 404") as missing:
            install(read_lock(other), tmp_path / "node_modules")
        told.append(str(missing.value))
    with pytest.raises(EnvironmentProblem) as silent:  # nobody listens there any more
        install(read_lock(other), tmp_path / "node_modules")
    told.append(str(silent.value))
    changed = path.replace("1.0.0", "1.0.1")
    with registry(monkeypatch, changed, TARBALL + b"x", user=user):
        with pytest.raises(EnvironmentProblem, match=r"is not the file that thing") as wrong:
            install(read_lock(other), tmp_path / "node_modules")
        told.append(str(wrong.value))
    for text in told:
        assert "http://127.0.0.1:" in text
        assert "w@rd" not in text
        assert "pass" not in text
        assert "ada" not in text


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", ["thing", "@scope/thing"])
@pytest.mark.parametrize("password", ["pa/ss", "pa#ss", "12/ss", "p@a/ss", "pa?ss", "pass/"])
def test_a_password_that_is_not_encoded_is_asked_to_be_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str, name: str
) -> None:
    lock = lock_of(tmp_path, **{name: {"version": "1.0.0", "integrity": INTEGRITY}})
    monkeypatch.setenv("npm_config_registry", f"http://ada:{password}@127.0.0.1:9/npm/")
    said = "npm's registry cannot be asked: http://127.0.0.1:9/npm has an @ behind"
    with pytest.raises(EnvironmentProblem, match=r"/ as %2F") as caught:
        install(read_lock(lock), tmp_path / "node_modules")
    assert str(caught.value).startswith(said)
    assert f"ada:{password}" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"version": "1.0.0"},
        {"version": "1.0.0", "integrity": "sha1-AAAA"},
        {"integrity": INTEGRITY},
    ],
    ids=str,
)
def test_a_package_that_is_not_pinned_is_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    with pytest.raises(EnvironmentProblem, match="not a lock of npm packages"):
        read_lock(lock_of(tmp_path, thing=entry))


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine where neither a variable nor an .npmrc names a registry; returns its PATH."""
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    return programs


def test_npm_is_asked_where_its_registry_is_if_nothing_else_says_so(unset: Path) -> None:
    npm = unset / "npm"
    npm.write_text('#!/bin/sh\n[ "$*" = "config get registry" ] && echo https://npm.example/\n')
    npm.chmod(0o755)
    assert npm_packages._registry() == "https://npm.example"


def test_without_npm_the_user_is_told_how_to_name_the_registry(unset: Path) -> None:
    assert not any(unset.iterdir())
    with pytest.raises(EnvironmentProblem, match="npm_config_registry"):
        npm_packages._registry()
