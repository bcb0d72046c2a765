"""What a resumed TLS session costs a board, in instructions, against a full handshake: by the
firmware's `tls` alone, which the bound is for, and with all that the client does about it.

Counted as `make bench-device` does (x86-64 instructions of sim-pico-w, by callgrind), with the
gateway's own listener for it. Writes benchmarks/out/resumption.json; exits with 1 above the bound.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks.device import Bench
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.resources import firmware_dir
from handfast.state import StateDir

OUT = Path(__file__).parent / "out" / "resumption.json"
OPTIONS = ("session-resumption",)
_MOST = 2_500_000  # instructions of a resumed handshake
_MORE = 4


class ResumptionBench(Bench):
    """A gateway that resumes, and a board whose firmware does."""

    def __init__(self, folder: Path, gateway: GatewayProcess) -> None:
        super().__init__(folder, gateway, options=OPTIONS)
        example = firmware_dir() / "examples" / "resumption.py"
        (folder / "lib" / "resumption.py").write_bytes(example.read_bytes())
        self._url = gateway.urls["api-resume"]
        self._place = urlsplit(self._url)
        self._store = self._board()
        self._run("enrol.py", self._store)

    def measure(self) -> dict[str, int]:
        """Return instructions of a handshake, and of one with GET, in full and resumed."""
        bare = "resume_tls.py", self._place.hostname or "", str(self._place.port)
        client = "resume.py", self._url
        return {
            "tls_full_handshake_instructions": self._each(*bare, kind="full"),
            "tls_resumed_handshake_instructions": self._each(*bare, kind="resumed"),
            "client_full_handshake_instructions": self._each(*client, kind="full"),
            "client_resumed_handshake_instructions": self._each(*client, kind="resumed"),
            "client_full_handshake_get_instructions": self._each(*client, kind="full", then="get"),
            "client_resumed_handshake_get_instructions": self._each(
                *client, kind="resumed", then="get"
            ),
        }

    def _each(self, script: str, *where: str, kind: str, then: str = "") -> int:
        """The difference of two runs: start, imports and a first connection stand in both."""

        def arguments(connections: int) -> tuple[str, ...]:
            return (script, self._store, *where, str(connections), kind, *filter(None, [then]))

        resumed = self._run(*arguments(1 + _MORE))
        if resumed != str(_MORE if kind == "resumed" else 0):
            raise SystemExit(f"{script} resumed {resumed} of {_MORE} sessions, when all are {kind}")
        return (self._count(*arguments(1 + _MORE)) - self._count(*arguments(1))) // _MORE


def main() -> int:
    """Measure, print, write the JSON."""
    with tempfile.TemporaryDirectory(prefix="handfast-bench-") as name:
        folder, passphrase = Path(name), secrets.token_hex(16).encode()
        state = StateDir(folder / "gateway")
        create_authorities(state, passphrase)
        with GatewayProcess(state, passphrase, GatewayOptions(resume_port=0)) as gateway:
            figures = ResumptionBench(folder, gateway).measure()
    table = Table("figure", "measured", title="A connection's cost on sim-pico-w, client and all")
    for figure, value in figures.items():
        table.add_row(figure, f"{value:,}")
    Console().print(table)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    return int(figures["tls_resumed_handshake_instructions"] > _MOST)


if __name__ == "__main__":
    sys.exit(main())
