"""Firmware files: fetched once, checked by SHA-256, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from handfast.boards.addresses import Address
from handfast.boards.sources import cache_dir, locked
from handfast.errors import EnvironmentProblem, Refused, Unreachable
from handfast.files import write_atomically

Progress = Callable[[str, float], None]

_TIMEOUT_S = 30.0
_ATTEMPTS = 5  # in a row, none of which brought a byte
_MOST_BYTES = 64 << 20  # twice the largest flash chip that MicroPython runs on


@dataclass(frozen=True, slots=True)
class Firmware:
    """A file that is here; ``recorded`` says whether its SHA-256 was known before."""

    path: Path
    sha256: str
    recorded: bool


def local_firmware(path: Path, *, sha256: str | None = None) -> Firmware:
    """Return a file that the user has, checked where its hash is known.

    Raises:
        Refused: it is another file.
        EnvironmentProblem: it cannot be read.
    """
    try:
        found = _sha256(path)
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be read: {error.strerror}") from error
    _compare(found, sha256, str(path))
    return Firmware(path, found, sha256 is not None)


def fetch_firmware(
    url: str, *, sha256: str | None, progress: Progress = lambda *_: None
) -> Firmware:
    """Return the file behind ``url`` from the cache, or download it; what came before stays.

    A download that broke off is continued (RFC 9110, 14.2, Range, with If-Range), here or by a
    later call. The hash of what was accepted last is remembered, and a file for which none is
    given must have it; the first one must come over HTTPS all the way.

    Raises:
        Refused: the file has another hash, or there is none and the address, or one that it leads
            to, is not HTTPS.
        Unreachable: the server does not answer, or has no such file.
        EnvironmentProblem: the cache cannot be written.
    """
    try:
        address = Address.parse(url)
        httpx.URL(address.url)  # is stricter
    except (ValueError, httpx.InvalidURL) as error:
        raise Refused(f"not an address of a file: {error}") from None
    parts = urlsplit(address.url)
    name = PurePosixPath(parts.path).name
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise Refused(f"{address} is not an address of a file")
    if sha256 is None and parts.scheme != "https":
        raise Refused(f"{address} has no recorded SHA-256 and is not HTTPS: give --sha256")
    sha256 = None if sha256 is None else sha256.lower()
    folder = cache_dir() / "firmware" / hashlib.sha256(url.encode()).hexdigest()[:16]
    with locked(folder):
        return _Download(address, folder, name, progress).result(sha256)


class _Download:
    """One file of the cache: itself, its part, the part's validator, its remembered hash."""

    def __init__(self, address: Address, folder: Path, name: str, progress: Progress) -> None:
        self._address, self._file, self._progress = address, folder / name, progress
        self._part = folder / ".part"
        self._validator = folder / ".part-validator"
        self._remembered = folder / ".sha256"
        self._hash_is_known = False

    def result(self, sha256: str | None) -> Firmware:
        remembered = self._read(self._remembered)
        wanted = sha256 or remembered
        found = _sha256(self._file) if self._file.exists() else None
        if found is not None and found == (wanted or found):
            self._remember(found, remembered)
            return Firmware(self._file, found, sha256 is not None)
        found = self._fetch(wanted)
        self._remember(found, remembered)
        self._part.replace(self._file)
        self._forget_part()
        return Firmware(self._file, found, sha256 is not None)

    def _remember(self, accepted: str, before: str | None) -> None:
        if accepted != before:
            write_atomically(self._remembered, accepted.encode())

    def _fetch(self, wanted: str | None) -> str:
        """Complete the part; returns its hash, which is the one that is wanted."""
        self._hash_is_known = wanted is not None
        self._complete()
        found = _sha256(self._part)
        try:
            _compare(found, wanted, self._address.url)
        except Refused:
            self._forget_part()
            raise
        return found

    def _refuse_plain(self, request: httpx.Request) -> None:
        """Refuse, before it is asked, what a server that nobody can vouch for would answer."""
        if request.url.scheme != "https":
            raise Refused(
                f"{self._address} has no recorded SHA-256 and leads to {request.url.scheme}://"
                f"{request.url.host}, which is not HTTPS: give --sha256"
            )

    def _complete(self) -> None:
        fruitless = 0
        while True:
            had = self._had
            try:
                self._continue()
                return
            except httpx.TransportError as error:
                fruitless = 0 if self._had > had else fruitless + 1
                if fruitless == _ATTEMPTS:
                    raise Unreachable(
                        f"{self._address} cannot be fetched ({error or type(error).__name__}): try "
                        "again, or give a file that you have by --firmware"
                    ) from error

    @property
    def _had(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _continue(self) -> None:
        """Fetch what is missing; a part without a validator could be of another file."""
        headers = {"Accept-Encoding": "identity"}
        if self._address.authorization is not None:
            headers["Authorization"] = self._address.authorization
        validator = self._read(self._validator)
        if self._had and validator:
            headers |= {"Range": f"bytes={self._had}-", "If-Range": validator}
        hooks = [] if self._hash_is_known else [self._refuse_plain]
        with (
            httpx.Client(
                timeout=_TIMEOUT_S, follow_redirects=True, event_hooks={"request": hooks}
            ) as client,
            client.stream("GET", self._address.url, headers=headers) as response,
        ):
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._forget_part()
                raise httpx.ReadError("the part that was here does not fit")
            if not resumed and response.status_code != httpx.codes.OK:
                raise Unreachable(f"{self._address} answers {response.status_code}")
            if resumed and not response.headers.get("Content-Range", "").startswith(
                f"bytes {self._had}-"
            ):
                self._forget_part()
                raise httpx.ReadError("another range than asked for")
            self._receive(response, append=resumed)

    def _receive(self, response: httpx.Response, *, append: bool) -> None:
        etag = response.headers.get("ETag", "")
        # A weak one does not promise the same octets (RFC 9110, 13.1.5).
        strong = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        length = int(response.headers.get("Content-Length", 0))
        if not append:
            self._part.unlink(missing_ok=True)
            self._validator.unlink(missing_ok=True)
            if strong:
                write_atomically(self._validator, strong.encode())
        total = self._had + length
        with self._part.open("ab") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                if file.tell() > _MOST_BYTES:
                    raise Refused(f"{self._address} is larger than any firmware")
                self._progress("download", min(1.0, file.tell() / total) if total else 0)
            file.flush()
            os.fsync(file.fileno())

    def _forget_part(self) -> None:
        self._part.unlink(missing_ok=True)
        self._validator.unlink(missing_ok=True)

    @staticmethod
    def _read(file: Path) -> str | None:
        return file.read_text() if file.exists() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(found: str, wanted: str | None, source: str) -> None:
    if wanted is not None and found != wanted.lower():
        raise Refused(
            f"{source} has the SHA-256 {found}, not {wanted}: it is damaged or another file"
        )
