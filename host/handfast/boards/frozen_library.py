"""The device library as a part of a firmware: how a board says which, and how it is marked.

MicroPython looks into its firmware before /lib, so that a frozen library wins over one on the
filesystem. Our builds, and `handfast firmware library --source`, put a module beside the library
that holds the hash of its source; one that firmware/manifest.py froze is known by its version.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.products import files_hash
from handfast.errors import BoardProblem
from handfast.resources import firmware_dir

MARK = "frozen.py"

_REMEDY = (
    "flash firmware of this handfast's `firmware build BOARD --with frozen-mtls`, or stock "
    "firmware; nothing was changed"
)

# Prints (version, hash), None for no frozen library, or a text: what one raised when imported. The
# firmware alone is looked into: the folder /mtls may stand before it in the path. What this imports
# is let go of again.
ASK = """
def _ask():
    import sys

    def there(name):
        try:
            __import__(name)
        except ImportError as e:
            # A module that is there and misses another has that one's name here.
            if str(e) != "no module named '%s'" % name:
                raise
            return False
        return True

    def let_go():
        ours = [n for n in sys.modules if n.split('.')[0] == 'mtls']
        return {n: sys.modules.pop(n) for n in ours}

    path, kept = sys.path[:], let_go()
    sys.path[:] = ['.frozen']
    try:
        if not there('mtls'):
            return None
        version = sys.modules['mtls'].__version__
        marked = there('mtls.frozen')
        return version, sys.modules['mtls.frozen'].SOURCE_SHA256 if marked else None
    except BaseException as e:
        return '%s: %s' % (type(e).__name__, e)
    finally:
        let_go()
        sys.modules.update(kept)
        sys.path[:] = path
print(repr(_ask()))
del _ask
"""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A library: its version, and the SHA-256 of its source where that is known."""

    version: str
    source_sha256: str | None

    def __str__(self) -> str:
        if self.source_sha256 is None:
            return self.version
        return f"{self.version} (source {self.source_sha256[:12]})"


def own_library() -> Frozen:
    """Return what this host provisions boards with."""
    folder = firmware_dir() / "mtls"
    return Frozen(_version(folder), files_hash(folder))


def mark(library: Path) -> str:
    """Return the module :data:`MARK` for the library in that folder."""
    return f"SOURCE_SHA256 = {files_hash(library)!r}\n"


def require_own(frozen: Frozen, url: str) -> None:
    """Refuse a library other than this host's: what is copied to the board could not replace it.

    Raises:
        BoardProblem: it is another; says what to do.
    """
    own = own_library()
    known = frozen.source_sha256 is not None
    if frozen == own or (not known and frozen.version == own.version):
        return
    raise BoardProblem(
        f"the firmware of the board at {url} has mtls {frozen} frozen in, which MicroPython takes "
        f"before any in /lib, and this handfast provisions with {own}: {_REMEDY}"
    )


def cannot_be_imported(raised: str, url: str) -> BoardProblem:
    """Return the error for a board with a frozen library that raised this when it was imported."""
    return BoardProblem(
        f"the firmware of the board at {url} has an mtls frozen in, which MicroPython takes before "
        f"any in /lib, and it cannot be imported ({raised}): {_REMEDY}"
    )


def _version(library: Path) -> str:
    tree = ast.parse((library / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise LookupError(f"{library} has no __version__")
