from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from handfast.files import write_atomically, write_secret


@pytest.mark.parametrize(
    ("write", "mode"), [(write_atomically, 0o644), (write_secret, 0o600)], ids=["plain", "secret"]
)
def test_content_is_replaced_with_its_mode_whatever_the_umask(
    tmp_path: Path, write: object, mode: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    before = os.umask(0o077 if mode == 0o644 else 0)
    try:
        write(path, b"new")  # type: ignore[operator]
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_reaches_the_disk_before_its_name_and_then_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    synced: list[tuple[bool, bool]] = []
    real = os.fsync

    def recording(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", recording)
    write_atomically(path, b"new")
    assert synced == [(False, False), (True, True)]
