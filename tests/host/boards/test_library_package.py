"""`handfast firmware library`: a folder that mip installs from, and that a firmware freezes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from handfast.boards import device_library, frozen_library
from handfast.boards.device_library import compact_source
from handfast.boards.frozen_library import own_library
from handfast.boards.library_package import write_library
from handfast.boards.sources import fetch, find_source
from handfast.cli.firmware import command
from handfast.errors import EnvironmentProblem, UsageError


def listed(folder: Path) -> set[str]:
    package = json.loads((folder / "package.json").read_text())
    assert all(target == source for target, source in package["urls"])
    return {target for target, _ in package["urls"]}


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / "mtls").iterdir()}


def test_package_json_names_every_file_that_is_there(tmp_path: Path) -> None:
    made = write_library(tmp_path, mpy=6)
    assert listed(tmp_path) == there(tmp_path) == {f"mtls/{name}" for name in made.files}
    assert set(made.files) == {"__init__.mpy", "library.z"}


def test_unpacked_bytecode_is_a_file_for_each_module(tmp_path: Path) -> None:
    made = write_library(tmp_path, mpy=6, packed=False)
    assert listed(tmp_path) == there(tmp_path) == {f"mtls/{name}" for name in made.files}
    assert set(made.files) == {name.replace(".py", ".mpy") for name in compact_source()}


def test_what_an_earlier_call_left_is_replaced_and_nothing_else_is_touched(tmp_path: Path) -> None:
    write_library(tmp_path, mpy=None)
    write_library(tmp_path, mpy=6)
    assert listed(tmp_path) == there(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mtls", "package.json"}
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="another folder"):
        write_library(tmp_path, mpy=None)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_version_that_nothing_here_makes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_library.shutil, "which", lambda _: None)
    with pytest.raises(EnvironmentProblem, match="version 5"):
        write_library(tmp_path / "out", mpy=5)
    assert not (tmp_path / "out").exists()


def manifest_language(folder: Path) -> ModuleType:
    """MicroPython's own reader of manifests."""
    with tarfile.open(fetch(find_source("micropython", "1.26.1"))) as archive:
        member = next(m for m in archive if m.name.endswith("tools/manifestfile.py"))
        archived = archive.extractfile(member)
        assert archived is not None
        (folder / "manifestfile.py").write_bytes(archived.read())
    spec = importlib.util.spec_from_file_location("manifestfile", folder / "manifestfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_manifest_freezes_every_file(tmp_path: Path) -> None:
    write_library(tmp_path / "library", mpy=None)
    language = manifest_language(tmp_path)
    manifest = language.ManifestFile(language.MODE_FREEZE, {"MPY_LIB_DIR": str(tmp_path)})
    manifest.execute(str(tmp_path / "library" / "manifest.py"))
    frozen = {file.target_path for file in manifest.files()}
    assert frozen == {f"mtls/{name}" for name in (*compact_source(), frozen_library.MARK)}


def test_source_says_which_library_it_was_made_of_and_bytecode_need_not(tmp_path: Path) -> None:
    made = write_library(tmp_path / "source", mpy=None)
    said = (tmp_path / "source" / "mtls" / frozen_library.MARK).read_text()
    assert made.files[frozen_library.MARK] == len(said)
    marked: dict[str, str] = {}
    exec(said, marked)  # noqa: S102
    assert marked["SOURCE_SHA256"] == own_library().source_sha256
    assert frozen_library.MARK not in write_library(tmp_path / "bytecode", mpy=6).files


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "handfast", "firmware", "library", "--out", tmp_path, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    said = json.loads(done.stdout)
    assert said["folder"] == str(tmp_path)
    assert said["mpy"] == 6
    sizes = {name: (tmp_path / "mtls" / name).stat().st_size for name in said["files"]}
    assert sizes == said["files"]


def test_a_version_that_is_none_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["library", "--out", str(tmp_path), "--mpy", "new"])
    assert done.exit_code == 2
