"""``handfast gateway``: run the gateway."""

from __future__ import annotations

import asyncio
import json
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from handfast.gateway.own_leaf import MAX_LIFETIME_S
from handfast.gateway.service import MAX_DEVICE_LIFETIME_S, GatewaySettings, serve
from handfast.pki.keystore import passphrase
from handfast.state import StateDir

_INTERRUPTED = 130
_PORT = click.IntRange(0, 65_535)


@click.group()
def command() -> None:
    """Run the gateway."""


@command.command("serve")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="State folder.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--name",
    "names",
    multiple=True,
    default=("localhost", "127.0.0.1"),
    show_default=True,
    help="DNS name or IP address in the gateway's certificates; may be given again. "
    "The first one goes into URLs.",
)
@click.option(
    "--api-port", type=_PORT, default=8443, show_default=True, help="For devices' calls; 0: any."
)
@click.option("--enrol-port", type=_PORT, default=8444, show_default=True, help="For EST; 0: any.")
@click.option(
    "--public-port", type=_PORT, default=8080, show_default=True, help="Plain HTTP; 0: any."
)
@click.option(
    "--admin-port",
    type=_PORT,
    help="For administrators on other machines, with a certificate from `handfast ca "
    "issue-admin`; 0: any. Without it only the Unix socket is there.",
)
@click.option(
    "--resume-port",
    type=_PORT,
    help="The API for firmware that resumes TLS sessions by their id; 0: any. Without it nobody "
    "resumes one.",
)
@click.option(
    "--overlap-s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="How long a device's old certificate stays good after the switch to a new one.",
)
@click.option(
    "--device-lifetime-s",
    type=click.IntRange(min=1, max=MAX_DEVICE_LIFETIME_S),
    default=86_400,
    show_default=True,
    help="Life of a device's certificate.",
)
@click.option(
    "--leaf-lifetime-s",
    type=click.IntRange(min=1, max=MAX_LIFETIME_S),
    default=MAX_LIFETIME_S,
    show_default=True,
    help="Life of the gateway's own certificates.",
)
@click.option(
    "--handshake-s",
    type=click.FloatRange(min=0, max=600, min_open=True),
    default=10.0,
    show_default=True,
    help="How long a peer may take for a TLS handshake, and, where it is longer than usual, to "
    "begin a request by TLS; more for emulated boards.",
)
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="Holds the CA keys' passphrase."
)
@click.option("--json", "as_json", is_flag=True, help="Print the URLs as one JSON document.")
# For who starts a gateway as a part of something: it stops when the pipe's other end is closed.
@click.option("--lifeline-fd", type=click.IntRange(min=3), hidden=True)
def serve_command(
    folder: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
    lifeline_fd: int | None,
    **options: Any,
) -> int:
    """Serve the API, enrolment, public and admin listeners until SIGTERM or Ctrl-C.

    The log goes to stderr and to gateway/gateway.log in the state folder.
    """
    settings = GatewaySettings(state=StateDir.choose(folder), **options)
    secret = passphrase("Passphrase of the CA keys", file=passphrase_file)
    on_ready = _print_json if as_json else _print_urls
    return _run(settings, secret, on_ready=on_ready, lifeline_fd=lifeline_fd)


def _run(
    settings: GatewaySettings,
    secret: bytes,
    *,
    on_ready: Callable[[dict[str, Any]], None],
    lifeline_fd: int | None,
) -> int:
    received: list[int] = []

    async def until_signalled() -> None:
        stop = asyncio.Event()

        def on_signal(number: int) -> None:
            received.append(number)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        if lifeline_fd is not None:
            if select.select([lifeline_fd], [], [], 0)[0]:
                return  # who asked for the gateway has gone already

            def on_lost(descriptor: int) -> None:
                loop.remove_reader(descriptor)  # it stays readable: once is enough
                stop.set()

            loop.add_reader(lifeline_fd, on_lost, lifeline_fd)
        await serve(settings, secret, stop=stop, on_ready=on_ready)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(until_signalled())
    return _INTERRUPTED if signal.SIGINT in received else 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _print_urls(ready: dict[str, Any]) -> None:
    for name in ("api", "api-resume", "enrol", "public", "admin", "admin-tls"):
        if name in ready:
            click.echo(f"{name:10} {ready[name]}")


def _print_json(ready: dict[str, Any]) -> None:
    click.echo(json.dumps(ready))
