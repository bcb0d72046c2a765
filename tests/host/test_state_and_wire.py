from __future__ import annotations

import json
from pathlib import Path

import pytest

from handfast import wire
from handfast.errors import EnvironmentProblem
from handfast.state import StateDir

_VECTORS = Path(__file__).parents[1] / "vectors" / "wire.json"


def test_the_hosts_wire_constants_are_those_of_the_vector_file() -> None:
    vectors = json.loads(_VECTORS.read_text())
    del vectors["_"]
    ours = {name.lower(): value for name, value in vars(wire).items() if name.isupper()}
    assert ours == vectors


def test_the_option_comes_before_the_environment_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HANDFAST_DIR", raising=False)
    assert StateDir.choose(None).root == tmp_path / ".local/share/handfast"
    monkeypatch.setenv("HANDFAST_DIR", "~/fleet")
    assert StateDir.choose(None).root == tmp_path / "fleet"
    assert StateDir.choose(Path("/srv/handfast")).root == Path("/srv/handfast")


def test_every_path_is_below_the_folder_and_no_two_are_the_same(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    properties = [name for name, kind in vars(StateDir).items() if isinstance(kind, property)]
    paths = [getattr(state, name) for name in properties]
    paths += [state.ca_key("root"), state.ca_certificate("root"), state.ca_certificate_pem("root")]
    assert len(set(paths)) == len(paths) > len(properties) > 5
    assert all(path.is_relative_to(tmp_path) for path in paths)


def test_folders_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "deep" / "state")
    state.create_gateway()
    state.create_gateway()
    for folder in (state.root, state.gateway):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="file/state"):
        StateDir(tmp_path / "file" / "state").create()
