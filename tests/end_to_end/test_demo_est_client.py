"""The demo's EST client leaves no private key outside the folder that goes with the demo."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from scene_support import empty_stage, play

from handfast.lab.demo import revocation as act
from handfast.lab.demo.revocation import revocation


def test_private_keys_pass_through_the_scenes_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, name: str) -> None:
        read.append(Path(name))
        load(context, name)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    monkeypatch.setattr(act, "_DEVICES", 1)
    with empty_stage(tmp_path) as scene:
        play(revocation, scene)
        assert scene.folder in {path.parent for path in read}
        assert all(path.is_relative_to(tmp_path) for path in read)
        assert list(scene.folder.iterdir()) == []
