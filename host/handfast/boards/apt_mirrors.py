"""The Debian mirrors that apt on this machine is set up with (sources.list(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Entry:
    """One archive of apt's: where it is, which suites and components of it are used."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AptConfiguration:
    """Where apt's configuration is read from."""

    etc_apt: Path = Path("/etc/apt")
    os_release: Path = Path("/etc/os-release")

    def mirrors(self) -> list[str]:
        """Return the URLs of the mirrors that carry this system's own suite, without a final slash.

        All suites share one pool, so a mirror of the running release has the archives of later
        ones too. Third-party archives are left out: they do not carry a suite of this name with
        the component ``main``, or, where one does, it only costs a try.
        """
        codename = self._codename()
        found: list[str] = []
        for entry in self._entries():
            uri = entry.uri.rstrip("/")
            usable = uri.startswith(("http://", "https://", "file:"))
            if usable and "main" in entry.components and codename in entry.suites:
                found.append(uri)
        return list(dict.fromkeys(found))

    def _codename(self) -> str:
        text = _read(self.os_release)
        match = re.search(r'^VERSION_CODENAME="?([^"\n]*)', text, re.MULTILINE)
        return match[1] if match else ""

    def _entries(self) -> Iterator[_Entry]:
        folder = self.etc_apt / "sources.list.d"
        for file in (self.etc_apt / "sources.list", *sorted(folder.glob("*.list"))):
            yield from _one_line_entries(_read(file))
        for file in sorted(folder.glob("*.sources")):
            yield from _deb822_entries(_read(file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _one_line_entries(text: str) -> Iterator[_Entry]:
    """Parse ``deb [option=value ...] uri suite component ...`` lines."""
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] in ("deb", "deb-src"):
            yield _Entry(uri=words[1], suites=(words[2],), components=tuple(words[3:]))


def _deb822_entries(text: str) -> Iterator[_Entry]:
    """Parse paragraphs of ``Field: value`` lines, continued by lines that start with a blank."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", uncommented):
        joined = re.sub(r"\n[ \t]+", " ", paragraph)
        pairs = (line.partition(":") for line in joined.splitlines())
        fields = {name.strip().lower(): value.split() for name, _, value in pairs}
        if [word.lower() for word in fields.get("enabled", ["yes"])] in (["no"], ["false"]):
            continue
        for uri in fields.get("uris", []):
            yield _Entry(
                uri=uri,
                suites=tuple(fields.get("suites", [])),
                components=tuple(fields.get("components", [])),
            )
