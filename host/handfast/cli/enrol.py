"""``handfast enrol``: get a certificate for a key that a board or program made itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.table import Table

from handfast.boards.enrol import enrol
from handfast.boards.mkr_enrol import MkrEnrolled, enrol_mkr
from handfast.cli.device import client, common_options, when
from handfast.cli.progress import progress_bars
from handfast.errors import EnvironmentProblem, UsageError
from handfast.files import write_atomically
from handfast.pki.csr import MAX_CSR_BYTES, CsrError, ParsedCsr, read_csr
from handfast.pki.names import validate_device_id, validate_hardware_id

_FORMATS = {"pem": Encoding.PEM, "der": Encoding.DER}
_DER_SUFFIXES = (".der", ".cer")
_STDIN = Path("-")


@click.command()
@click.option(
    "--csr",
    "csr_file",
    metavar="FILE|-",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The certification request (PKCS#10), PEM or DER; - reads it from stdin.",
)
@click.option(
    "--serial",
    "port",
    metavar="URL",
    help="The port of an Arduino MKR that runs boards/arduino-mkr/handfast_enrol.",
)
@click.option(
    "--device-id", help="The device's name; for --serial by default made from the hardware."
)
@click.option(
    "--hardware-id", help="For --csr: the hardware's own id, for the subject's serialNumber."
)
@click.option("--renew", is_flag=True, help="Give a device that has a certificate another one.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the certificate goes; to stdout in PEM by default.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(_FORMATS)),
    help="Of --out; by default as its name says, .der or .cer for DER.",
)
@common_options
def command(
    csr_file: Path | None,
    port: str | None,
    device_id: str | None,
    hardware_id: str | None,
    renew: bool,
    out: Path | None,
    form: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Get a certificate for a key that a board or program made itself.

    Registers the device, makes a one-time token and enrols by EST, all in one go. May be run
    again: until the certificate has been used, the same key gets the same one.
    """
    _require_folder(out)
    gateway = client(folder)
    if port is not None:
        if csr_file is not None or hardware_id is not None:
            raise UsageError("--serial gets request and hardware id from the board: give it alone")
        with progress_bars(quiet=as_json) as tell:
            done = enrol_mkr(port, gateway=gateway, device_id=device_id, renew=renew, progress=tell)
        named, leaf, extra = done.device_id, done.certificate, _board(done)
        hardware_id = done.board.chip
    elif csr_file is not None and device_id is not None:
        named, extra = validate_device_id(device_id), {}
        if hardware_id is not None:
            validate_hardware_id(hardware_id)
        csr = _read(csr_file)
        leaf = enrol(csr, gateway=gateway, device_id=named, hardware_id=hardware_id, renew=renew)
    else:
        raise UsageError("give --csr FILE with --device-id, or --serial URL")
    if out is not None:
        write_atomically(out, leaf.public_bytes(_FORMATS[form or _format_of(out)]))
    if as_json:
        document = {"device_id": named, "hardware_id": hardware_id} | extra | describe(leaf)
        click.echo(json.dumps(document | {"out": None if out is None else str(out)}))
    elif out is None and csr_file is not None:
        click.echo(describe(leaf)["certificate"], nl=False)
    else:
        _print(named, leaf, out, extra)


def _board(done: MkrEnrolled) -> dict[str, Any]:
    return {"board": done.board.board, "issued": done.issued, "tls": done.board.has_tls}


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what ``--json`` says of a certificate; times in unix seconds."""
    return {
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }


def _read(csr_file: Path) -> ParsedCsr:
    """Read and check the request: nothing is registered for one that cannot be granted."""
    name = "stdin" if csr_file == _STDIN else str(csr_file)
    try:
        if csr_file == _STDIN:
            content = sys.stdin.buffer.read(2 * MAX_CSR_BYTES + 1)
        else:
            with csr_file.open("rb") as file:
                content = file.read(2 * MAX_CSR_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    try:
        return read_csr(content)
    except CsrError as error:
        raise UsageError(
            f"{name}: {error}; make one with `openssl req -new -key KEY -subj /` for a P-256 key"
        ) from error


def _require_folder(out: Path | None) -> None:
    """Refuse early what would fail when the certificate is there."""
    if out is not None and not out.parent.is_dir():
        raise EnvironmentProblem(f"there is no folder {out.parent} for {out.name}: make it first")


def _format_of(out: Path) -> str:
    return "der" if out.suffix.lower() in _DER_SUFFIXES else "pem"


def _print(
    device_id: str, leaf: x509.Certificate, out: Path | None, board: Mapping[str, Any]
) -> None:
    described = describe(leaf)
    table = Table(show_header=False, box=None)
    table.add_row("device", device_id)
    if board:
        table.add_row("board", board["board"])
        table.add_row("certificate", "stored in the chip" if board["issued"] else "kept")
    if out is not None:
        table.add_row("file", str(out))
    table.add_row("serial", described["serial"])
    table.add_row("good until", when(described["not_after"]))
    Console().print(table, highlight=False)
    if board and not board["tls"]:
        note = f"a {board['board']} has no TLS path: it cannot use the certificate by itself"
        click.echo(f"note: {note}", err=True)
