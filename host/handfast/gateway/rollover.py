"""Trust anchor rollover as the running gateway sees it: who lacks what, and when to switch.

A ``server`` CA takes over when every active device has reported it, an old root is retired when
every active device has reported the new one and needs the old one for nothing; or when the operator
says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

from handfast.errors import HandfastError
from handfast.gateway.context import Gateway
from handfast.gateway.own_leaf import Issuers, OwnLeaves
from handfast.gateway.problems import Problem
from handfast.gateway.view import DeviceState, RegistryView
from handfast.pki.authorities import Authority, load_authority
from handfast.pki.rollover import (
    Published,
    fingerprint,
    load_next_server,
    load_published,
    retire_old_root,
    switch_server,
)
from handfast.state import StateDir

Kind = Literal["tls", "root"]

_CHECK_EVERY_S = 1.0
_AFTER_FAILURE_S = 60.0


def lacking(view: RegistryView, kind: Kind, sha256: str) -> list[dict[str, Any]]:
    """Return the active devices that have not reported an anchor, by name, each with why.

    Suspended and revoked devices are not waited for: neither is let in, whatever it trusts. A
    device that never reported is: nobody knows what it trusts.
    """
    found = []
    for device_id, device in sorted(view.devices.items()):
        report = view.anchors.get(device_id)
        if device.state is not DeviceState.ACTIVE or (report and sha256 in report.of(kind)):
            continue
        reported = None if report is None else int(report.reported)
        found.append({"device_id": device_id, "reported": reported})
    return found


def issuers(authorities: Iterable[Authority], published: Published) -> Issuers:
    """Return who signs the gateway's own certificates from now on."""
    loaded = {authority.name: authority for authority in authorities}
    return Issuers(loaded["server"], tuple(published.behind_server), tuple(loaded.values()))


class Rollover:
    """Keeps a gateway's CAs as the state folder has them, and moves a rollover on.

    Args:
        state: the gateway's folder.
        passphrase: of the CA keys.
        gateway: whose ``published``, ``authorities`` and ``certificates`` are replaced.
        leaves: have the ``server`` CA in use sign them.
    """

    def __init__(
        self, state: StateDir, passphrase: bytes, gateway: Gateway, leaves: OwnLeaves
    ) -> None:
        self._state = state
        self._passphrase = passphrase
        self._gateway = gateway
        self._leaves = leaves
        self._moving = asyncio.Lock()

    def status(self) -> dict[str, Any]:
        """Return what is published, by SHA-256, and the devices that are waited for."""
        published, view = self._gateway.published, self._gateway.registry.view
        following, old_root = published.next_server, published.old_root
        waiting = [] if following is None else lacking(view, "tls", fingerprint(following))
        unrooted = [] if old_root is None else lacking(view, "root", fingerprint(published.root))
        return {
            "server": {
                "in_use": fingerprint(published.server),
                "next": following and fingerprint(following),
                "waiting_for": waiting,
            },
            "root": {
                "in_use": fingerprint(published.root),
                "old": old_root and fingerprint(old_root),
                "old_signed_server_ca": bool(old_root) and published.old_root_is_needed,
                "waiting_for": unrooted,
            },
        }

    async def reload(self) -> None:
        """Publish what a command has put into the state folder.

        Raises:
            HandfastError: it cannot be read; all stays as it was.
        """
        async with self._moving:
            await self._take_over()

    async def switch(self) -> None:
        """Present leaves of the next ``server`` CA from now on, and publish the old one no more.

        Raises:
            Problem: ``no-rollover``.
            HandfastError: the CA cannot be loaded, or the folder not written; all is as before.
        """
        async with self._moving:
            following = self._gateway.published.next_server
            if following is None:
                raise Problem("no-rollover", "No server CA is being rolled over.")
            # Else an earlier try has moved it, and failed afterwards.
            if self._state.next_server_ca.exists():
                # Moved only when its key is known to be usable.
                await asyncio.to_thread(load_next_server, self._state, self._passphrase)
                await asyncio.to_thread(switch_server, self._state)
            await self._take_over()
        await self._record("server-ca-switched", fingerprint(following))

    async def retire(self) -> None:
        """Publish the old root no more.

        Raises:
            Problem: ``no-rollover``.
            HandfastError: the folder cannot be written; all is as before.
        """
        async with self._moving:
            old = self._gateway.published.old_root
            if old is None:
                raise Problem("no-rollover", "No root is being rolled over.")
            await asyncio.to_thread(retire_old_root, self._state)
            await self._take_over()
        await self._record("root-retired", fingerprint(old))

    async def keep_moving(self) -> None:
        """Switch and retire as soon as the devices are ready, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            try:
                await self.move_on()
            except Exception as error:
                self._gateway.log.error("rollover_stuck", exc_info=error)
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def move_on(self) -> None:
        """Do what nobody has to be waited for any more."""
        published = self._gateway.published
        status = self.status()
        if published.next_server and not status["server"]["waiting_for"]:
            await self.switch()
        elif (
            published.old_root
            and not published.old_root_is_needed
            and not status["root"]["waiting_for"]
        ):
            await self.retire()

    async def _take_over(self) -> None:
        gateway, state = self._gateway, self._state
        published = await asyncio.to_thread(load_published, state)
        authorities = dict(gateway.authorities)
        if published.server != gateway.published.server:
            authorities["server"] = await asyncio.to_thread(
                load_authority, state, "server", self._passphrase
            )
        # New leaves first: boards that hold both CAs take either, whatever is published.
        if published.behind_server != gateway.published.behind_server:
            await self._leaves.follow(issuers(authorities.values(), published))
        gateway.authorities, gateway.published = authorities, published
        gateway.log.info(
            "trust_published",
            server=[fingerprint(ca) for ca in published.server_cas],
            roots=[fingerprint(root) for root in published.roots],
        )

    async def _record(self, event: str, sha256: str) -> None:
        try:
            await self._gateway.registry.write(lambda tx: tx.audit(event, None, sha256))
        except (Problem, HandfastError) as error:
            self._gateway.log.error("rollover_not_audited", rollover=event, reason=str(error))
