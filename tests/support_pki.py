"""CAs for tests, made once a run: searching for an RSA-4096 key takes seconds.

``make_state(folder)`` gives a state folder of one's own, with CAs whose passphrase is
``PASSPHRASE``. All of a run's workers copy from the one set that the first of them makes.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from handfast.pki.authorities import Authority, create_authorities, load_authority
from handfast.pki.profiles import AUTHORITY_NAMES
from handfast.state import StateDir

PASSPHRASE = b"test"
TRUST_DOMAIN = "handfast.local"


def make_state(folder: Path) -> StateDir:
    """Return a new state folder below ``folder``, a test's ``tmp_path``, that has CAs."""
    state = StateDir(folder / "state")
    state.create()
    shutil.copytree(_shared(folder).ca, state.ca)
    return state


def load_all(state: StateDir) -> dict[str, Authority]:
    """Return every CA of a state folder from :func:`make_state`, by name."""
    return {name: load_authority(state, name, PASSPHRASE) for name in AUTHORITY_NAMES}


def _shared(folder: Path) -> StateDir:
    shared = StateDir(_run_folder(folder) / "handfast-ca")
    shared.create()
    with (shared.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.ca.exists():
            create_authorities(shared, PASSPHRASE, trust_domain=TRUST_DOMAIN)
    return shared


def _run_folder(folder: Path) -> Path:
    """Return the folder that pytest made for the whole run, above those of its workers.

    ``tmp_path`` is <run>/<test> or, under xdist, <run>/popen-gw<n>/<test>.
    """
    for parent in folder.parents:
        if parent.name.startswith("popen-gw"):
            return parent.parent
    return folder.parent
