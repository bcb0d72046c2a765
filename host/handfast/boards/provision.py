"""Gives a board all that it needs to live on its own: library, trust, identity, application.

Everything here may be run again. A second run copies only what differs, keeps keys and
certificates that the gateway still honours, and makes no token for a board that has enrolled; a
run that was cut short goes on where it stopped. Library, anchors, configuration and application
change in one step: whatever happens, the board runs all of the old ones or all of the new. The
board's clock is left alone: it asks the gateway for signed time itself. Private keys are made on
the board; a CSR is all that comes out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from handfast.admin_client import AdminClient, AdminRefused
from handfast.boards.definition import load_boards
from handfast.boards.device_library import DeviceLibrary, device_library
from handfast.boards.device_tree import settle
from handfast.boards.frozen_library import require_own
from handfast.boards.identify import CONFIG_FILE, BoardFacts, ask_frozen, identify, literal
from handfast.boards.registration import register
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem, Refused, UsageError
from handfast.pki.csr import parse_csr
from handfast.pki.names import validate_device_id
from handfast.resources import firmware_dir
from handfast.wire import CONFIG_SCHEMA

TOKEN_LIFETIME_S = 86_400

_LIBRARY = "/lib/mtls"
_ANCHORS = "/mtls/anchor"
_IDENTITY_FILES = ("/mtls/current", "/mtls/slot-a", "/mtls/slot-b", "/mtls/idevid")
_SEED_BYTES = 32
_KEY_TIMEOUT_S = 120.0  # a key and a CSR take an RP2040 a second; a busy emulator much longer
_ERASE_TIMEOUT_S = 600.0  # 50 ms a sector, and some boards have 4096 of them
_HARDWARE_ID_TAIL = 8
_RESTART_S = 3.0  # of a board that something is wrong with already
_LIVE = ("pending", "current", "superseded")

# (what is being done, how much of it is done: 0 to 1)
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What a run found and did.

    ``files_resumed`` of the files copied had come to the board in a run that was cut short.
    ``compiled`` says whether the board has the library as bytecode, ``frozen`` whether its firmware
    brings it, so that none was copied. ``idevid_issued`` and
    ``token_given`` whether this run made one, ``enrolled`` whether the board had an operational
    certificate already that the gateway honours.
    """

    device_id: str
    hardware_id: str
    files_copied: int
    files_resumed: int
    files_unchanged: int
    files_removed: int
    compiled: bool
    frozen: bool
    idevid_sha256: str
    idevid_issued: bool
    token_given: bool
    enrolled: bool
    seconds: float


def provision(
    board_url: str,
    *,
    gateway: AdminClient,
    device_id: str | None = None,
    networks: Mapping[str, str] | None = None,
    ntp_host: str = "",
    ntp_port: int = 123,
    telemetry_interval_s: int | None = None,
    secure_element: Mapping[str, Any] | None = None,
    ethernet: Mapping[str, Any] | None = None,
    rtc: Mapping[str, Any] | None = None,
    watchdog_s: int | None = None,
    start: bool = True,
    token: bool = True,
    token_lifetime_s: int = TOKEN_LIFETIME_S,
    reseed: bool = False,
    capture: Path | None = None,
    library: Callable[[str, int], DeviceLibrary] | None = None,
    progress: Progress | None = None,
) -> Provisioned:
    """Provision the board at ``board_url`` for the gateway.

    Args:
        board_url: its serial port, as for :meth:`SerialLink.open`.
        gateway: a client of the running gateway's admin interface.
        device_id: its name; by default what it has already, or one made of what it is and of the
            end of its hardware id.
        networks: Wi-Fi SSID → password, in place of those on the board; None keeps those.
        ntp_host: asked for a hint of the time when the gateway's time-stamp authority is out of
            reach; "" for never.
        ntp_port: its UDP port.
        telemetry_interval_s: seconds between two reports of the application; None for what
            the gateway says.
        secure_element: the chip that is to hold the board's private keys, as config.json has it;
            None keeps what the board has been told.
        ethernet: an Ethernet port, tried before Wi-Fi, as config.json has it among its networks;
            None keeps what the board has been told.
        rtc: a clock chip with a battery, as config.json has it; None keeps what it has been told.
        watchdog_s: for how long the application may get nothing done before the board is reset;
            0 for ever, None keeps what it has been told.
        start: run the application at the end.
        token: give a one-time token to a board that has not enrolled; without one it enrols with
            its IDevID.
        token_lifetime_s: how long that token may be used.
        reseed: give the board a new seed though it has one.
        capture: a file that every byte the board sends is appended to.
        library: makes the device library for a version of MicroPython and of its bytecode.
        progress: told what is being done.

    Raises:
        Unreachable: no gateway answers; the board was not touched.
        Refused: the device is revoked or suspended, or its name belongs to other hardware.
        BoardProblem: the board fails, is full, or is unplugged; run it again to go on. Or it is to
            join a Wi-Fi network and cannot, or its firmware has another library frozen in.
        UsageError: a bad device_id.
    """
    started = time.monotonic()
    tell = progress or (lambda _step, _done: None)
    tell("ask the gateway", 0)
    if device_id is not None:
        validate_device_id(device_id)
    trust = gateway.trust()
    tell("connect to the board", 0)
    with closing(SerialLink.open(board_url, capture=capture)) as link, _runs_again(link, start):
        link.soft_reset()
        settle(link)
        _finish_decommissioning(link)
        facts = identify(link)
        _require_wifi(link, facts, networks)
        if (frozen := ask_frozen(link)) is not None:
            require_own(frozen, link.url)
        named = device_id or _name(facts)
        tell("register the device", 0)
        registered = register(gateway, named, facts.hardware_id)
        # Keys and certificates are of one name: another name lets them go, with the old files.
        renamed = facts.config.get("device_id", named) != named
        kept = _networks(facts, networks, ethernet) or _built_in_port(facts)
        optional = {
            "telemetry_interval_s": telemetry_interval_s,
            "secure_element": secure_element or facts.config.get("secure_element"),
            "rtc": rtc or facts.config.get("rtc"),
            "watchdog_s": facts.config.get("watchdog_s") if watchdog_s is None else watchdog_s,
        }
        config = _config(trust, named, kept, ntp_host, ntp_port, optional)
        made_for = None
        if frozen is None:
            tell("compile the library", 0)
            made_for = (library or device_library)(".".join(map(str, facts.version)), facts.mpy)
        library_files = made_for.files_for(inflates=facts.inflates) if made_for else {}
        files = _files(library_files, config, trust)
        if networks and facts.config:  # the configuration that names them is not to come first
            _write_secrets(link, None, networks, keep=True)
        tell("copy the library", 0)
        installed = link.install(
            files,
            only_files_below=(_LIBRARY, _ANCHORS),
            forget=_IDENTITY_FILES if renamed else (),
            progress=lambda done, total: tell("copy the library", done / max(1, total)),
        )
        tell("make and certify the key", 0)
        link.soft_reset()  # the new boot.py and library, and a heap in one piece
        holds = _holdings(link)
        if reseed or not holds.seed:
            seed = base64.b64encode(secrets.token_bytes(_SEED_BYTES)).decode()
            link.call("mtls.provision.put_seed", seed)
        identity, issued = _ensure_idevid(link, gateway, registered, holds)
        enrolled = _keep_live_leaves(link, registered, holds)
        tell("hand over the token", 0)
        give = token and not enrolled and holds.token not in _usable_tokens(registered)
        made = gateway.create_token(named, lifetime_s=token_lifetime_s)["token"] if give else None
        if made or networks is not None:
            _write_secrets(link, made, networks)
        if start:
            tell("start the application", 0)
            link.soft_reset(run_main=True)
    return Provisioned(
        device_id=named,
        hardware_id=facts.hardware_id,
        files_copied=len(installed.copied),
        files_resumed=len(installed.resumed),
        files_unchanged=len(installed.unchanged),
        files_removed=len(installed.removed),
        compiled=made_for is None or made_for.compiler is not None,
        frozen=made_for is None,
        idevid_sha256=identity,
        idevid_issued=issued,
        token_given=made is not None,
        enrolled=enrolled,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _runs_again(link: SerialLink, start: bool) -> Iterator[None]:
    """Whatever goes wrong, let the application go on that was stopped for it."""
    try:
        yield
    except BaseException:
        if start:
            with suppress(BoardProblem):
                link.soft_reset(run_main=True, timeout_s=_RESTART_S)
        raise


def _finish_decommissioning(link: SerialLink) -> None:
    """End first what a power cut kept from ending: whatever is copied before would go with it."""
    link.exec(
        "import os as _o\n"
        "if 'mtls.erase' in _o.listdir('/'):\n"
        " from mtls.store import Store as _S\n _S()\n del _S\n"
        "del _o",
        _ERASE_TIMEOUT_S,
    )


# What it is called


def _networks(
    facts: BoardFacts, wifi: Mapping[str, str] | None, ethernet: Mapping[str, Any] | None
) -> list[Any]:
    """Return the board's networks in order, Ethernet first: what is given, else what it was told
    and can join."""
    told = facts.config.get("networks")
    told = told if isinstance(told, list) else []
    ports = [dict(ethernet)] if ethernet else [port for port in told if isinstance(port, dict)]
    if wifi is not None:
        return ports + list(wifi)
    return ports + [name for name in told if facts.has_wifi and isinstance(name, str)]


def _built_in_port(facts: BoardFacts) -> list[Any]:
    """Return the Ethernet port that a board of this build has, by its board.toml; none for most."""
    boards = [] if facts.has_wifi else load_boards()
    ports = {b.firmware.build: b.ethernet for b in boards if b.firmware and b.ethernet}
    port = ports.get(facts.build)
    return [port.as_network()] if port else []


def _require_wifi(link: SerialLink, facts: BoardFacts, networks: Mapping[str, str] | None) -> None:
    """Refuse networks that the board has no radio for: its application would not start."""
    if networks and not facts.has_wifi:
        raise BoardProblem(
            f"the board at {link.url} has no Wi-Fi (its MicroPython has no network.WLAN): "
            "provision it without --wifi"
        )


def _name(facts: BoardFacts) -> str:
    if isinstance(already := facts.config.get("device_id"), str):
        with suppress(UsageError):  # a damaged configuration is replaced
            return validate_device_id(already)
    kind = re.sub(r"[^a-z0-9]+", "-", facts.build.lower()).strip("-") or "board"
    return validate_device_id(f"{kind[:48]}-{facts.hardware_id[-_HARDWARE_ID_TAIL:]}")


# What is copied


def _config(
    trust: Mapping[str, Any],
    device_id: str,
    networks: list[Any],
    ntp_host: str,
    ntp_port: int,
    optional: Mapping[str, Any],
) -> bytes:
    config = {
        "schema": CONFIG_SCHEMA,
        "device_id": device_id,
        "api_url": trust["api_url"],
        "enrol_url": trust["enrol_url"],
        "tsa_url": trust["tsa_url"],
        "ntp_host": ntp_host,
        "ntp_port": ntp_port,
        "trust_domain": trust["trust_domain"],
        "networks": networks,
    }
    config |= {key: value for key, value in optional.items() if value is not None}
    return json.dumps(config).encode()


def _files(
    library: Mapping[str, bytes], config: bytes, trust: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return all that belongs together on a board: device path → content."""
    files = {f"{_LIBRARY}/{name}": content for name, content in library.items()}
    for kind, anchors in (("tls", trust["tls_anchors"]), ("root", trust["roots"])):
        for encoded in anchors:
            der = base64.b64decode(encoded)
            files[f"{_ANCHORS}/{kind}-{hashlib.sha256(der).hexdigest()[:16]}.der"] = der
    files[CONFIG_FILE] = config
    for name in ("boot.py", "main.py"):
        files[f"/{name}"] = (firmware_dir() / "app" / name).read_bytes()
    return files


# Who the board is


@dataclass(frozen=True, slots=True)
class _Holdings:
    """What the board holds.

    SHA-256 of certificates by place ("idevid", "a", "b"), and of its token, if it has one.
    """

    certificates: Mapping[str, str]
    seed: bool
    token: str | None


def _holdings(link: SerialLink) -> _Holdings:
    certificates, seed, token = literal(
        link,
        "from mtls.store import Store as _S\nfrom hashlib import sha256 as _h\n"
        "from binascii import hexlify as _x\n_s = _S()\n_r = {}\n"
        "for _n in ('a', 'b', 'idevid'):\n"
        " _i = _s.identity(_n)\n"
        " if _i is not None and _i.cert_der:\n"
        "  _r[_n] = _x(_h(_i.cert_der).digest()).decode()\n"
        "try:\n"
        " _t = _s.token()\n"
        " _t = _t and _x(_h(_t.encode()).digest()).decode()\n"
        "except Exception:\n _t = None\n"  # a damaged file of secrets is replaced
        "print(repr((_r, _s.has_seed(), _t)))\n"
        "del _S, _h, _x, _s, _r, _n, _i, _t",
    )
    return _Holdings(certificates, seed, token)


def _honoured(registered: Mapping[str, Any], kind: str) -> set[str]:
    now = time.time()
    return {
        row["sha256"]
        for row in registered["certificates"]
        if row["kind"] == kind and row["state"] in _LIVE and row["not_after"] > now
    }


def _keep_live_leaves(link: SerialLink, registered: Mapping[str, Any], holds: _Holdings) -> bool:
    """Say whether the board has a leaf that the gateway honours; remove those it does not."""
    honoured = _honoured(registered, "ldevid")
    slots = {name: leaf for name, leaf in holds.certificates.items() if name in ("a", "b")}
    spent = tuple(f"/mtls/slot-{name}" for name, leaf in slots.items() if leaf not in honoured)
    if spent:
        _forget_identity(link, spent)
    return len(spent) < len(slots)


def _ensure_idevid(
    link: SerialLink, gateway: AdminClient, registered: Mapping[str, Any], holds: _Holdings
) -> tuple[str, bool]:
    """Return the SHA-256 of the board's IDevID, and whether it had to be issued."""
    present = holds.certificates.get("idevid")
    if present is not None and present in _honoured(registered, "idevid"):
        return present, False
    try:
        certificate = _certify(link, gateway, registered["device_id"])
    except AdminRefused as error:
        if error.slug != "key-reused":
            raise
        # The key was certified for something that is over: it is spent, a fresh one is made.
        _forget_identity(link, ("/mtls/idevid",))
        certificate = _certify(link, gateway, registered["device_id"])
    link.call("mtls.provision.install_idevid", base64.b64encode(certificate).decode())
    return hashlib.sha256(certificate).hexdigest(), True


def _certify(link: SerialLink, gateway: AdminClient, device_id: str) -> bytes:
    """Have the board make its key and CSR, and the factory CA sign it."""
    encoded = link.call("mtls.provision.idevid_csr", timeout_s=_KEY_TIMEOUT_S)
    request = base64.b64decode(encoded)
    asked = parse_csr(request).public_key
    certificate = gateway.issue_idevid(device_id, request)
    given = x509.load_der_x509_certificate(certificate).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if given.public_bytes(*form) != asked.public_bytes(*form):
        raise Refused(
            f"the gateway certified another key than the one of the board at {link.url}: "
            "nothing was installed"
        )
    return certificate


def _forget_identity(link: SerialLink, paths: tuple[str, ...]) -> None:
    """Remove keys and certificates that belong to another name or are spent."""
    link.exec(
        "import os as _o\n"
        f"for _n in {paths!r}:\n"
        " try:\n  _o.remove(_n)\n"
        " except OSError as _e:\n  if _e.errno != 2:\n   raise\n"
        "del _n, _o"
    )


# What the board is told in confidence


def _usable_tokens(registered: Mapping[str, Any]) -> set[str]:
    """Return the SHA-256 of each token that no key has been bound to, and that is not over."""
    now = time.time()
    return {
        token["sha256"]
        for token in registered["tokens"]
        if not token["bound"] and token["expires"] > now
    }


def _write_secrets(
    link: SerialLink,
    token: str | None,
    networks: Mapping[str, str] | None,
    *,
    keep: bool = False,
) -> None:
    """Change the board's secrets in one atomic write; what is not given stays as it is.

    With ``keep`` the passwords of other networks stay as well.
    """
    changed: dict[str, Any] = {"token": token} if token else {}
    if networks is not None:
        changed["wifi"] = dict(networks)
    kept = "_s['wifi'] = _w\n" if keep else ""
    link.exec(
        "import json as _j, os as _o\n"
        "try:\n"
        " with open('/mtls/secret.json') as _f:\n  _s = _j.load(_f)\n"
        "except (OSError, ValueError):\n _s = None\n"
        "if not isinstance(_s, dict):\n _s = {}\n"
        "_w = _s.get('wifi')\n_w = dict(_w) if isinstance(_w, dict) else {}\n"
        f"_s.update({changed!r})\n_w.update(_s.get('wifi') or {{}})\n{kept}"
        "try:\n"
        " with open('/mtls/secret.json.new', 'w') as _f:\n  _j.dump(_s, _f)\n"
        " _o.rename('/mtls/secret.json.new', '/mtls/secret.json')\n"
        "except OSError:\n"
        " try:\n  _o.remove('/mtls/secret.json.new')\n"
        " except OSError:\n  pass\n"  # it was not even begun: say what was wrong first
        " raise\n"
        "finally:\n del _j, _o, _s, _w\n"
    )
