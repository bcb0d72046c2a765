"""Unpacks the part of a source archive that a build needs, and nothing outside its folder.

Takes tar archives, and Debian's binary packages, whose files are in one (deb(5), ar(5)).
"""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from handfast.errors import EnvironmentProblem

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_AR_SIZE = slice(48, 58)
_AR_END = b"`\n"


def unpack(archive: Path, target: Path, *, parts: tuple[str, ...]) -> None:
    """Unpack the files of ``archive`` whose path starts with one of ``parts`` into ``target``.

    The archive's single top folder is left away. Only plain files are made: no links, no devices,
    no absolute path, nothing with ``..`` in it.

    Raises:
        EnvironmentProblem: it is not a readable archive.
        OSError: a file could not be written.
    """
    try:
        with _open(archive) as tar:
            for member in tar:
                inside = member.name.partition("/")[2]
                if member.isfile() and inside.startswith(parts):
                    _write(tar, member, target / _safe(archive, inside))
    except (tarfile.TarError, zlib.error, EOFError, lzma.LZMAError) as error:
        raise EnvironmentProblem(f"{archive}: cannot be unpacked: {error}") from error


@contextmanager
def _open(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as file:
        is_package = file.read(len(_AR_MAGIC)) == _AR_MAGIC
        inner = io.BytesIO(_data_of(file)) if is_package else file
        inner.seek(0)
        with tarfile.open(fileobj=inner) as tar:
            yield tar


def _data_of(package: io.BufferedReader) -> bytes:
    """Return the member of a Debian package that holds its files."""
    while header := package.read(_AR_HEADER_BYTES):
        size = header[_AR_SIZE].strip()
        if not header.endswith(_AR_END) or not size.isdigit():
            raise tarfile.ReadError("a damaged package")
        content = package.read(int(size))
        package.seek(int(size) % 2, io.SEEK_CUR)  # members begin at even places
        if header.startswith(b"data.tar"):
            return content
    raise tarfile.ReadError("a package without data")


def _safe(archive: Path, inside: str) -> PurePosixPath:
    path = PurePosixPath(inside)
    if path.is_absolute() or ".." in path.parts:
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
