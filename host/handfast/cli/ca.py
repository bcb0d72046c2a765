"""``handfast ca``: make and show the certificate authorities, let administrators in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from handfast.cli.rollover import command as rollover_command
from handfast.cli.root_key import (
    require_root_options,
    root_dir_option,
    root_keeping,
    root_passphrase_option,
)
from handfast.files import write_secret
from handfast.pki.authorities import (
    SERVER_KEY_BITS,
    create_authorities,
    load_authority,
    load_certificates,
    load_trust_domain,
    require_no_authorities,
)
from handfast.pki.issue import issue_admin_leaf
from handfast.pki.keystore import passphrase
from handfast.pki.names import validate_trust_domain
from handfast.pki.profiles import ADMIN_LEAF_LIFETIME, AUTHORITY_NAMES
from handfast.state import StateDir

_folder_option = click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="State folder."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """Make and show the certificate authorities."""


command.add_command(rollover_command, "rollover")


@command.command("init")
@_folder_option
@click.option(
    "--trust-domain",
    default="handfast.local",
    show_default=True,
    help="Stands in the URI of every device.",
)
@click.option(
    "--server-key-bits",
    type=click.Choice([str(bits) for bits in SERVER_KEY_BITS]),
    default=str(SERVER_KEY_BITS[0]),
    show_default=True,
    help="RSA key of the server CA; boards work harder on the longer one.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its first line encrypts the CA keys.",
)
@root_dir_option(
    "Where the root's key goes, under a passphrase of its own: a medium to lock away. "
    "No gateway needs it."
)
@root_passphrase_option
@_json_option
def init_command(
    folder: Path | None,
    trust_domain: str,
    server_key_bits: str,
    passphrase_file: Path | None,
    root_dir: Path | None,
    root_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make the root CA and the device, factory, server and admin CAs below it.

    The passphrase comes from --passphrase-file, $HANDFAST_PASSPHRASE,
    $HANDFAST_PASSPHRASE_FILE or a question; that of a root's key in --root-dir from
    --root-passphrase-file, $HANDFAST_ROOT_PASSPHRASE, $HANDFAST_ROOT_PASSPHRASE_FILE or a
    question. CAs that exist are never replaced.
    """
    state = StateDir.choose(folder)
    # What can be refused is refused before anybody types a passphrase.
    validate_trust_domain(trust_domain)
    require_no_authorities(state)
    require_root_options(state, root_dir, root_passphrase_file)
    secret = passphrase("Passphrase for the CA keys", file=passphrase_file, confirm=True)
    root = root_keeping(root_dir, root_passphrase_file, confirm=True)
    with _progress() as progress:
        task = progress.add_task("making keys", total=len(AUTHORITY_NAMES))
        create_authorities(
            state,
            secret,
            root=root,
            trust_domain=trust_domain,
            progress=lambda _: progress.advance(task),
            server_key_bits=int(server_key_bits),
        )
    _show(state, as_json)
    if root is None:
        key = state.ca_key("root")
        click.echo(f"the root's key is {key}: move it offline, no gateway needs it", err=True)


@command.command("issue-admin")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Gets key, certificate and root, for --admin-cert; readable by you only.",
)
@click.option(
    "--lifetime-s",
    type=click.IntRange(min=1, max=int(ADMIN_LEAF_LIFETIME.total_seconds())),
    default=8 * 3600,
    show_default=True,
    help="How long it is good; nothing revokes it before.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its first line is the CA keys' passphrase.",
)
@_folder_option
def issue_admin_command(
    name: str, out: Path, lifetime_s: int, passphrase_file: Path | None, folder: Path | None
) -> None:
    """Let NAME administer gateways of these CAs from other machines, for some hours.

    The key in the file is not encrypted: carry it as you would a password.
    """
    state = StateDir.choose(folder)
    root = load_certificates(state)["root"]
    secret = passphrase("Passphrase of the CA keys", file=passphrase_file)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue_admin_leaf(
        load_authority(state, "admin", secret),
        name=name,
        public_key=key.public_key(),
        lifetime_s=lifetime_s,
        now=datetime.now(UTC),
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(out, pem + leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    click.echo(f"{out} is good until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}", err=True)


@command.command("show")
@_folder_option
@_json_option
def show_command(folder: Path | None, as_json: bool) -> None:
    """Show the CAs and what each may issue; needs no passphrase."""
    _show(StateDir.choose(folder), as_json)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(state: StateDir, as_json: bool) -> None:
    trust_domain = load_trust_domain(state)
    rows = [_facts(state, *item) for item in load_certificates(state).items()]
    if as_json:
        click.echo(json.dumps({"trust_domain": trust_domain, "authorities": rows}, indent=2))
        return
    console = Console()
    console.print(f"trust domain [bold]{trust_domain}[/bold], CAs in {escape(str(state.ca))}")
    for row in rows:
        table = Table(title=row["name"], title_justify="left", show_header=False, box=None)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for fact, value in row.items():
            if fact != "name":
                shown = ", ".join(value) if isinstance(value, list) else value
                table.add_row(fact.replace("_", " "), escape(shown))
        console.print(table)


def _facts(state: StateDir, name: str, certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "name": name,
        "subject": certificate.subject.rfc4514_string(),
        "key": _describe(certificate.public_key()),
        "serial": f"{certificate.serial_number:x}",
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "may_issue": _may_issue(certificate),
        "path": str(state.ca_certificate(name)),
    }


def _may_issue(certificate: x509.Certificate) -> list[str]:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ["issuing CAs"]
    return [usage._name for usage in usages]


def _describe(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "P-256" if isinstance(key.curve, ec.SECP256R1) else key.curve.name
    return type(key).__name__
