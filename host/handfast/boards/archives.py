"""Unpacks the part of a source archive that a build needs, and nothing outside its folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from handfast.errors import EnvironmentProblem


def unpack(archive: Path, target: Path, *, parts: tuple[str, ...]) -> None:
    """Unpack the files of ``archive`` whose path starts with one of ``parts`` into ``target``.

    The archive's single top folder is left away. Only plain files are made: no links, no devices,
    nothing with ``..`` in its path.

    Raises:
        EnvironmentProblem: it is not a readable archive.
        OSError: a file could not be written.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                inside = member.name.partition("/")[2]
                if member.isfile() and inside.startswith(parts):
                    _write(tar, member, target / _safe(archive, inside))
    except (tarfile.TarError, EOFError) as error:
        raise EnvironmentProblem(f"{archive}: cannot be unpacked: {error}") from error


def _safe(archive: Path, inside: str) -> PurePosixPath:
    path = PurePosixPath(inside)
    if ".." in path.parts:
        raise EnvironmentProblem(f"{archive}: refuses to unpack {inside!r}")
    return path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with content, file.open("wb") as out:
        shutil.copyfileobj(content, out)
    file.chmod(0o755 if member.mode & 0o100 else 0o644)
