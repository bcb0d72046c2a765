"""A disk that is full, or hangs, must not keep a device from being stopped."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Clock, add_device, fresh_csr, issuer, open_registry
from gateway_rig import open_rig, slug_of
from sqlalchemy import event, select

from handfast.gateway import devices, schema
from handfast.gateway.problems import Problem
from handfast.gateway.registry import Registry
from handfast.gateway.reserve import Reserve
from handfast.gateway.rows import insert_certificate
from handfast.gateway.view import CertificateKind, CertificateState, DeviceRecord, DeviceState
from handfast.gateway.writer import NotStored, Transaction
from handfast.pki.authorities import Authority

REVOKED = DeviceState.REVOKED


class Disk:
    """Lets a registry's file grow, or not."""

    def __init__(self, registry: Registry) -> None:
        self.full = False
        event.listen(registry._engine, "checkout", self._on_checkout)

    def _on_checkout(self, connection: Any, *_: object) -> None:
        # SQLite never goes below the pages that are in use.
        connection.execute(f"PRAGMA max_page_count = {1 if self.full else 1_000_000}")


class Held(Reserve):
    """A reserve whose space is what the disk lacks."""

    disk: Disk
    taken = False

    def hold(self) -> bool:
        return not self.taken

    def release(self) -> bool:
        was_held, self.taken = not self.taken, True
        self.disk.full = False
        return was_held


def certify(tx: Transaction, device_id: str, number: int) -> None:
    """Register so many live certificates that to revoke them takes new pages."""
    issue = issuer(Clock())
    for _ in range(number):
        insert_certificate(
            tx,
            issue(DeviceRecord(device_id, None, DeviceState.ACTIVE, 0), fresh_csr()),
            device_id=device_id,
            kind=CertificateKind.LDEVID,
            ca="device",
            state=CertificateState.PENDING,
            asked_by=None,
        )


async def prepare(registry: Registry) -> None:
    for device_id in ("a", "b"):
        await add_device(registry, device_id)
    await registry.write(lambda tx: certify(tx, "a", 80))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def stored_state(tx_or_connection: Any) -> str:
    table = schema.devices
    query = select(table.c.state).where(table.c.device_id == "a")
    state: str = tx_or_connection.scalar(query)
    return state


def test_a_device_is_stopped_though_the_registry_cannot_be_written_and_stored_once_it_can(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await prepare(registry)
            disk = Disk(registry)
            disk.full = True
            storing = registry.stop_device("a", REVOKED)
            assert registry.view.devices["a"].state is REVOKED
            with pytest.raises(NotStored, match="too-busy"):
                await storing
            assert registry.view.devices["a"].state is REVOKED
            assert registry.view.revocations == {}
            assert await registry.read(stored_state) == "active"
            disk.full = False
            await until(lambda: len(registry.view.revocations) == 80)
            assert await registry.read(stored_state) == "revoked"
        async with open_registry(tmp_path, Clock()) as registry:
            assert registry.view.devices["a"].state is REVOKED
            assert len(registry.view.revocations) == 80

    asyncio.run(main())


def test_nothing_else_is_stored_while_a_stop_is_not(tmp_path: Path) -> None:
    """Another change of the device would be made from its old row, and undo the stop."""

    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await prepare(registry)
            disk = Disk(registry)
            disk.full = True
            with pytest.raises(NotStored):
                await registry.stop_device("a", REVOKED)
            configure = partial(devices.set_device_settings, device_id="a", settings={"x": 1})
            with pytest.raises(NotStored, match="too-busy"):
                await registry.write(configure)
            assert registry.view.devices["a"].state is REVOKED
            disk.full = False
            await until(lambda: len(registry.view.revocations) == 80)
            await registry.write(configure)
            assert registry.view.devices["a"].state is REVOKED

    asyncio.run(main())


def test_the_reserve_makes_room_for_a_stop_and_for_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        reserve = Held(tmp_path / "reserve")
        async with open_registry(tmp_path, Clock(), reserve=reserve) as registry:
            await prepare(registry)
            reserve.disk = Disk(registry)
            reserve.disk.full = True
            await registry.stop_device("a", REVOKED)
            assert await registry.read(stored_state) == "revoked"
            assert len(registry.view.revocations) == 80
            with pytest.raises(NotStored):
                await add_device(registry, "c")
            await registry.stop_device("b", DeviceState.SUSPENDED)
            reserve.taken = False  # somebody made room
            await add_device(registry, "c")

    asyncio.run(main())


def test_a_device_is_stopped_at_once_though_the_disk_hangs_and_the_queue_is_full(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await prepare(registry)
            go_on = threading.Event()
            configure = partial(devices.set_device_settings, device_id="a", settings={})
            hanging = asyncio.ensure_future(registry.write(lambda _tx: go_on.wait(20)))
            queued = [asyncio.ensure_future(registry.write(configure)) for _ in range(5000)]
            await asyncio.sleep(0)
            try:
                storing = registry.stop_device("a", REVOKED)
                assert registry.view.devices["a"].state is REVOKED
            finally:
                go_on.set()
            # What was queued before was made of the old row, and shows it at no time.
            while not storing.done():
                assert registry.view.devices["a"].state is REVOKED
                await asyncio.sleep(0)
            assert await hanging
            outcomes = await asyncio.gather(*queued, return_exceptions=True)
            assert any(isinstance(outcome, Problem) for outcome in outcomes)
            assert registry.view.devices["a"].state is REVOKED
            assert await registry.read(stored_state) == "revoked"

    asyncio.run(main())


def test_a_revoked_device_is_not_suspended(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await prepare(registry)
            await registry.stop_device("a", REVOKED)
            with pytest.raises(Problem, match="device-revoked"):
                registry.stop_device("a", DeviceState.SUSPENDED)
            assert registry.view.devices["a"].state is REVOKED

    asyncio.run(main())


def test_a_full_disk_is_said_aloud_when_a_device_is_revoked(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            await rig.add("a")
            leaf = await rig.enrolled()
            await rig.gateway.registry.write(lambda tx: certify(tx, "a", 80))
            disk = Disk(rig.gateway.registry)
            disk.full = True
            answer = await rig.admin("POST", "devices/a/revoke")
            assert (answer.status_code, slug_of(answer)) == (507, "not-durable")
            assert "a is revoked (connections closed: 1)" in answer.json()["detail"]
            assert "disk is full" in answer.json()["detail"]
            assert rig.closed == ["a"]
            assert slug_of(await rig.ping(leaf)) == "device-revoked"
            assert "device_state_not_stored" in {line["event"] for line in rig.log}
            disk.full = False
            await until(lambda: bool(rig.gateway.registry.view.revocations))
            assert slug_of(await rig.ping(leaf)) == "device-revoked"
            assert (await rig.admin("POST", "devices/a/revoke")).status_code == 200

    asyncio.run(main())


def test_a_gateway_that_ends_before_a_stop_is_stored_says_which(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            await rig.add("a")
            await rig.gateway.registry.write(lambda tx: certify(tx, "a", 80))
            Disk(rig.gateway.registry).full = True
            await rig.admin("POST", "devices/a/revoke")
        lost = next(line for line in rig.log if line["event"] == "stops_lost")
        assert lost["device_ids"] == ["a"]
        # Once, however often it was tried.
        assert [line["event"] for line in rig.log].count("registry_not_written") == 1

    asyncio.run(main())


def test_the_reserve_is_there_before_anything_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()):
            path = tmp_path / "reserve"
            await until(lambda: path.exists() and path.stat().st_size == 8 * 1024 * 1024)

    asyncio.run(main())


def test_a_reserve_takes_real_space_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    path.write_bytes(b"cut short")  # by the power, the last time
    reserve = Reserve(path)
    assert reserve.hold()
    held = path.stat()
    assert held.st_blocks * 512 >= held.st_size >= 8 * 1024 * 1024
    assert Reserve(path).hold()
    assert path.stat().st_size == held.st_size
    assert reserve.release()
    assert not path.exists()
    assert not reserve.release()
    assert reserve.hold()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reserve_that_cannot_be_had_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    reserve = Reserve(tmp_path / "reserve")
    assert not reserve.hold()
    assert not (tmp_path / "reserve").exists()
    monkeypatch.undo()
    assert not reserve.hold()  # not asked of a full disk at every write
