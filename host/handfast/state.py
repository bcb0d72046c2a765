"""Where everything that outlives a command is kept: every path below ``--dir``, spelled once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from handfast.errors import EnvironmentProblem

_VARIABLE = "HANDFAST_DIR"
_DEFAULT = Path(".local/share/handfast")
_OWNER_ONLY = 0o700

# In the folder of a CA.
KEY_FILE = "key.pem"
CERTIFICATE_FILE = "cert.der"
CERTIFICATE_PEM_FILE = "cert.pem"


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state folder; its properties are paths, whether or not anything is there yet.

    Args:
        root: the folder itself, what ``--dir`` names.
    """

    root: Path

    @classmethod
    def choose(cls, option: Path | None) -> StateDir:
        """Return the folder that ``--dir`` names, or ``$HANDFAST_DIR``, or the user's default."""
        named = option or os.environ.get(_VARIABLE)
        return cls(Path(named or Path.home() / _DEFAULT).expanduser().absolute())

    # Certificate authorities

    @property
    def ca(self) -> Path:
        """The folder of the CAs; it is there whole or not at all."""
        return self.root / "ca"

    @property
    def ca_settings(self) -> Path:
        """``{"schema": 1, "trust_domain": ...}``."""
        return self.ca / "settings.json"

    def ca_key(self, name: str) -> Path:
        """Return the path of a CA's private key: encrypted PKCS#8, PEM, mode 0600."""
        return self.ca / name / KEY_FILE

    def ca_certificate(self, name: str) -> Path:
        """Return the path of a CA's certificate in DER."""
        return self.ca / name / CERTIFICATE_FILE

    def ca_certificate_pem(self, name: str) -> Path:
        """Return the path of the same certificate in PEM, for other tools."""
        return self.ca / name / CERTIFICATE_PEM_FILE

    # CAs that follow each other

    @property
    def ca_lock(self) -> Path:
        """Held while CAs are moved."""
        return self.ca / "lock"

    @property
    def next_server_ca(self) -> Path:
        """The folder of a ``server`` CA that is published and signs nothing yet."""
        return self.ca / "server-next"

    @property
    def old_root(self) -> Path:
        """The folder of the root before this one, there for as long as it is published."""
        return self.ca / "root-old"

    @property
    def new_with_old(self) -> Path:
        """The root's key, certified by the root before it (RFC 4210 section 4.4), in DER."""
        return self.ca / "root" / "new-with-old.der"

    @property
    def old_with_new(self) -> Path:
        """The former root's key, certified by the root, in DER."""
        return self.ca / "root" / "old-with-new.der"

    # Gateway

    @property
    def gateway(self) -> Path:
        """The gateway's folder."""
        return self.root / "gateway"

    @property
    def registry(self) -> Path:
        """The SQLite database of devices, certificates, tokens and audit."""
        return self.gateway / "registry.sqlite3"

    @property
    def registry_reserve(self) -> Path:
        """Takes up space on the registry's disk, to be given up when that is full."""
        return self.gateway / "reserve"

    @property
    def admin_socket(self) -> Path:
        """The Unix socket of the admin listener."""
        return self.gateway / "admin.sock"

    @property
    def gateway_log(self) -> Path:
        """The gateway's log, one JSON document a line."""
        return self.gateway / "gateway.log"

    @property
    def gateway_ready(self) -> Path:
        """Process id and URLs, there while every listener listens."""
        return self.gateway / "ready.json"

    @property
    def gateway_lock(self) -> Path:
        """Held by the one gateway that may use this folder."""
        return self.gateway / "lock"

    # Creation

    def create(self) -> None:
        """Make the state folder, readable by its owner only.

        Raises:
            EnvironmentProblem: it cannot be made.
        """
        _make(self.root)

    def create_gateway(self) -> None:
        """Make the state folder and the gateway's folder in it.

        Raises:
            EnvironmentProblem: one of them cannot be made.
        """
        _make(self.root)
        _make(self.gateway)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot make the state folder {folder}: {error.strerror}; "
            f"choose another with --dir or ${_VARIABLE}"
        ) from error
