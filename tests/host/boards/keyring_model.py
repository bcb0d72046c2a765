"""A keyring in a file: this machine has no desktop that would keep one. Chosen by its own variable,

PYTHON_KEYRING_BACKEND=keyring_model.Keyring, as keyring's documentation says.
"""

import json
import os
from pathlib import Path

import keyring.backend
import keyring.errors


class Keyring(keyring.backend.KeyringBackend):
    priority = 1

    @property
    def _path(self):
        return Path(os.environ["KEYRING_MODEL_FILE"])

    def _read(self):
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def get_password(self, service, username):
        return self._read().get(f"{service}/{username}")

    def set_password(self, service, username, password):
        if os.environ.get("KEYRING_MODEL_LOCKED"):
            raise keyring.errors.KeyringLocked("locked")
        self._path.write_text(json.dumps(self._read() | {f"{service}/{username}": password}))
