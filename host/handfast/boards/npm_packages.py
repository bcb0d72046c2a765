"""Packages from npm's registry as a package-lock.json pins them, without npm or a node to run it.

What ``npm ci --ignore-scripts`` would put into ``node_modules``: each tarball is checked by the
lock's SHA-512 and unpacked; no script of a package runs.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handfast.boards.addresses import Address
from handfast.boards.archives import unpack
from handfast.boards.sources import Progress, Source, fetch
from handfast.errors import EnvironmentProblem

_NPM_TIMEOUT_S = 60
_MODULES = "node_modules/"
# Node's names (process.arch, process.platform) for what Python calls them.
_CPUS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """One package of a lock; ``place`` is its folder below ``node_modules``."""

    place: str
    name: str
    version: str
    sha512: str


def read_lock(lock: Path, *, dev: bool = False) -> list[NpmPackage]:
    """Return the packages of a package-lock.json that this machine takes.

    Args:
        lock: the file, of version 3.
        dev: with those that are there for development only.

    Raises:
        EnvironmentProblem: it is no such lock, or a package in it has no SHA-512.
    """
    try:
        entries = json.loads(lock.read_text(encoding="utf-8"))["packages"]
        return [
            _package(place.removeprefix(_MODULES), entry)
            for place, entry in entries.items()
            if place.startswith(_MODULES) and _wanted(entry, dev)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentProblem(f"{lock} is not a lock of npm packages: {error!r}") from error


def install(packages: list[NpmPackage], modules: Path, progress: Progress = lambda _: None) -> None:
    """Fetch and unpack packages into the folder ``modules``.

    Raises:
        EnvironmentProblem: one is not to be had, or is not what the lock pins.
    """
    for package in packages:
        archive = fetch(_source(package), progress=progress)
        unpack(archive, modules / package.place, parts=("",))


def _wanted(entry: dict[str, Any], dev: bool) -> bool:
    if entry.get("dev") and not dev:
        return False
    cpu = _CPUS.get(platform.machine().lower(), platform.machine())
    return _allows(entry.get("cpu"), cpu) and _allows(entry.get("os"), sys.platform)


def _allows(listed: str | list[str] | None, own: str) -> bool:
    return not listed or own in ([listed] if isinstance(listed, str) else listed)


def _package(place: str, entry: dict[str, Any]) -> NpmPackage:
    algorithm, _, digest = entry["integrity"].partition("-")
    if algorithm != "sha512":
        raise ValueError(f"{place} is pinned by {algorithm}, not by SHA-512")
    name = place.rpartition(_MODULES)[2]
    return NpmPackage(place, name, entry["version"], base64.b64decode(digest).hex())


def _source(package: NpmPackage) -> Source:
    base = package.name.rpartition("/")[2]
    try:
        registry = Address.parse(_registry())
    except ValueError as error:
        raise EnvironmentProblem(f"npm's registry cannot be asked: {error}") from None
    return Source(
        name=package.name,
        version=package.version,
        file=f"{package.name.replace('/', '-')}-{package.version}.tgz",
        sha256="",
        pool="",
        urls=(registry.below(f"{package.name}/-/{base}-{package.version}.tgz"),),
        sha512=package.sha512,
    )


def _registry() -> str:
    """Return the registry that npm is set up with: its variable, the user's .npmrc, npm's own.

    Raises:
        EnvironmentProblem: nothing says which.
    """
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if url := os.environ.get(variable):
            return url.rstrip("/")
    try:
        settings = (Path.home() / ".npmrc").read_text(encoding="utf-8")
    except OSError:
        settings = ""
    if match := re.search(r"^\s*registry\s*=\s*(\S+)", settings, re.MULTILINE):
        return match[1].rstrip("/")
    return _asked_of_npm().rstrip("/")


def _asked_of_npm() -> str:
    """Ask npm, the machine's or that of the virtual environment (extra ``npm``)."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise EnvironmentProblem(
            "nothing says where npm's registry is: set npm_config_registry to its URL, or "
            "`pip install 'handfast[npm]'`, which brings an npm that knows"
        )
    command = [npm, "config", "get", "registry"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentProblem(f"npm does not say where its registry is: {error}") from error
    return asked.stdout.strip()
