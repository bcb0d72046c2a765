"""Enrols an Arduino MKR over its serial port: its key is made in its chip and stays there.

Everything here may be run again. Until a certificate is stored the board answers with the same
key, and until it is used the gateway answers with the same certificate; so a run that was cut
short anywhere goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from handfast.admin_client import AdminClient
from handfast.boards.enrol import enrol, is_honoured
from handfast.boards.mkr import Mkr, MkrFacts
from handfast.errors import BoardProblem, Refused, UsageError
from handfast.pki.csr import CsrError, ParsedCsr, read_csr
from handfast.pki.names import validate_device_id

_CHIP_ID_TAIL = 8

# (what is being done, how much of it is done: 0 to 1)
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class MkrEnrolled:
    """What a run found and did; ``issued``: the certificate is new on the board."""

    device_id: str
    board: MkrFacts
    certificate: x509.Certificate
    issued: bool


def enrol_mkr(
    url: str,
    *,
    gateway: AdminClient,
    device_id: str | None = None,
    renew: bool = False,
    capture: Path | None = None,
    progress: Progress = lambda _step, _done: None,
) -> MkrEnrolled:
    """Give the board a certificate for a key in its chip.

    Args:
        url: its serial port, as for :meth:`SerialPort.open`.
        gateway: a client of the running gateway's admin interface.
        device_id: its name; by default the one in the certificate that it has, or one made of
            its kind and the end of its chip's serial number.
        renew: give it another key and certificate though what it has is good. Only a host can:
            EST's simplereenroll wants a TLS session with the old key.
        capture: a file that every byte the board sends is appended to.
        progress: told what is being done.

    Raises:
        Unreachable: no gateway answers; the board was not touched.
        Refused: the device is suspended, revoked or other hardware, has a certificate in use that
            the board has lost, or the board is one that cannot renew.
        BoardProblem: the board does not answer, refuses or is unplugged.
        UsageError: ``renew`` of a device that nobody knows; a bad device_id.
    """
    if device_id is not None:
        validate_device_id(device_id)
    progress("ask the gateway", 0)
    gateway.trust()
    progress("connect to the board", 0)
    with Mkr.open(url, capture=capture) as board:
        facts = board.hello()
        if renew and not facts.has_tls:
            raise Refused(
                f"a {facts.board} is enrolled only: its radio carries no TLS, so nothing uses its "
                "certificate that would have to be renewed; leave out --renew to give it "
                "another one when its own has ended"
            )
        held = _held(board)
        named = device_id or _name_in(held) or _name(facts)
        if held is not None and not renew and _is_good(gateway, named, held):
            return MkrEnrolled(named, facts, held, issued=False)
        progress("make the key", 0)
        csr = _request(board, url, progress)
        progress("certify it", 0)
        leaf = enrol(csr, gateway=gateway, device_id=named, hardware_id=facts.chip, renew=renew)
        progress("store the certificate", 0)
        der = leaf.public_bytes(Encoding.DER)
        board.store(der, lambda done: progress("store the certificate", done))
        if board.certificate() != der:
            raise BoardProblem(f"the board at {url} does not hold what it stored: try again")
        return MkrEnrolled(named, facts, leaf, issued=True)


def _held(board: Mkr) -> x509.Certificate | None:
    """Return the board's certificate; one that cannot be read is replaced like none."""
    der = board.certificate()
    with suppress(ValueError):
        return None if der is None else x509.load_der_x509_certificate(der)
    return None


def _is_good(gateway: AdminClient, device_id: str, held: x509.Certificate) -> bool:
    try:
        return _name_in(held) == device_id and is_honoured(gateway.device(device_id), held)
    except UsageError:  # no such device
        return False


def _request(board: Mkr, url: str, progress: Progress) -> ParsedCsr:
    content = board.csr(lambda done: progress("make the key", done))
    try:
        return read_csr(content)
    except CsrError as error:
        raise BoardProblem(
            f"the board at {url} sent a request that cannot be granted: {error}"
        ) from error


def _name_in(certificate: x509.Certificate | None) -> str | None:
    if certificate is None:
        return None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    with suppress(UsageError):
        return validate_device_id(str(names[0].value)) if names else None
    return None


def _name(facts: MkrFacts) -> str:
    return validate_device_id(f"{facts.board}-{facts.chip[-_CHIP_ID_TAIL:].lower()}")
