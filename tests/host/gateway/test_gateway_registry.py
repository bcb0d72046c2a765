from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from gateway_kit import START, Clock, add_device, create_token, fresh_csr, issuer, open_registry
from sqlalchemy import insert

from handfast.errors import EnvironmentProblem
from handfast.gateway import devices, enrolment, schema, telemetry
from handfast.gateway.problems import Problem
from handfast.gateway.registry import Registry
from handfast.gateway.view import DeviceState
from handfast.gateway.writer import Transaction


def store(
    registry: Registry, seq: int, *, body: str = "{}", device_id: str = "a"
) -> asyncio.Future[bool]:
    operation = partial(
        telemetry.store_telemetry, device_id=device_id, boot_id="boot", seq=seq, values=body
    )
    return asyncio.ensure_future(registry.write(operation))


async def enter(opening: AbstractAsyncContextManager[Registry]) -> None:
    async with opening:
        pass


def test_telemetry_is_stored_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await add_device(registry, "a")
            stored = await asyncio.gather(*(store(registry, seq % 50) for seq in range(200)))
            assert sum(stored) == 50
            rows = await registry.telemetry("a", after=0)
            assert sorted(row["seq"] for row in rows) == list(range(50))
            assert await registry.telemetry("a", after=rows[-1]["id"]) == []

    asyncio.run(main())


def test_a_device_that_reports_without_end_keeps_its_newest_rows_within_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "MOST_BYTES", 100_000)
    monkeypatch.setattr(telemetry, "_ROOM_BYTES", 10_000)

    async def stored(registry: Registry, device_id: str) -> list[tuple[int, int]]:
        rows = await registry.telemetry(device_id, after=0)
        return [(row["seq"], len(row["values"])) for row in rows]

    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            for device_id in ("a", "b"):
                await add_device(registry, device_id)
            await store(registry, 0, device_id="b")
            body = '"' + "\u00e9" * 2000 + '"'  # 4,002 bytes
            path = tmp_path / "registry.sqlite3"
            for start in range(0, 400, 40):
                writes = (store(registry, seq, body=body) for seq in range(start, start + 40))
                assert all(await asyncio.gather(*writes))
                assert path.stat().st_size < 400_000
            assert await store(registry, 399, body=body) is False
            kept = await stored(registry, "a")
            assert 100_000 - 10_000 - 4_300 <= len(kept) * 4_258 <= 100_000
            assert kept == [(seq, 2000) for seq in range(400 - len(kept), 400)]
            assert await stored(registry, "b") == [(0, 0)]

    asyncio.run(main())


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        async with open_registry(tmp_path, clock) as registry:
            for device_id in ("a", "b"):
                await add_device(registry, device_id)
            token = await create_token(registry, "a")
            enrol = partial(
                enrolment.enrol_by_token,
                device_id="a",
                token_sha256=token,
                csr=fresh_csr(),
                issue=issuer(clock),
            )
            await registry.write(enrol)
            revoke = partial(devices.set_device_state, device_id="a", state=DeviceState.REVOKED)
            await registry.write(revoke)
            registry.saw("b")
            before = registry.view
        async with open_registry(tmp_path, clock) as registry:
            assert registry.view.devices == before.devices
            assert registry.view.certificates == before.certificates
            assert registry.view.revocations == before.revocations
            assert (await registry.device("b"))["last_seen"] == START

    asyncio.run(main())


def test_one_failed_operation_leaves_the_others_of_its_group_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:

            def half_done(tx: Transaction) -> None:
                row = {"device_id": "half", "state": "active", "state_since": 0, "created": 0}
                tx.connection.execute(insert(schema.devices), row)
                raise Problem("bad-request")

            outcomes = await asyncio.gather(
                add_device(registry, "a"),
                registry.write(half_done),
                add_device(registry, "b"),
                add_device(registry, "a"),
                return_exceptions=True,
            )
            slugs = [o.slug if isinstance(o, Problem) else o for o in outcomes]
            assert slugs == [None, "bad-request", None, "already-exists"]
            assert [row["device_id"] for row in await registry.devices()] == ["a", "b"]
            assert sorted(registry.view.devices) == ["a", "b"]

    asyncio.run(main())


def test_a_full_disk_is_answered_503_stores_nothing_by_halves_and_heals(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await add_device(registry, "a")

            def limit(tx: Transaction, pages: int) -> None:
                tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

            def used(tx: Transaction) -> int:
                pages: int = tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                return pages

            await registry.write(partial(limit, pages=await registry.write(used)))
            body = '"' + "x" * 15_000 + '"'
            writes = [store(registry, seq, body=body) for seq in range(80)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert {o.status for o in outcomes if isinstance(o, Problem)} == {503}
            assert all(isinstance(o, Problem) for o in outcomes)
            assert await registry.telemetry("a", after=0) == []
            await registry.write(partial(limit, pages=1_000_000))
            assert await store(registry, 1) is True

    asyncio.run(main())


def test_telemetry_of_a_device_that_was_just_stopped_is_not_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await add_device(registry, "a")
            suspend = partial(devices.set_device_state, device_id="a", state=DeviceState.SUSPENDED)
            stopping = asyncio.ensure_future(registry.write(suspend))
            late = store(registry, 1)
            await stopping
            with pytest.raises(Problem, match="device-suspended"):
                await late

    asyncio.run(main())


def test_a_registry_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite3").write_bytes(b"this is not a database" * 100)
    with pytest.raises(EnvironmentProblem, match="cannot be opened"):
        asyncio.run(enter(open_registry(tmp_path, Clock())))


def test_a_newer_registry_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    engine = schema.open_engine(path)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    engine.dispose()
    with pytest.raises(EnvironmentProblem, match="newer"):
        asyncio.run(enter(open_registry(tmp_path, Clock())))


def test_expired_certificates_leave_the_memory(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        async with open_registry(tmp_path, clock) as registry:
            await add_device(registry, "a")
            enrol = partial(
                enrolment.enrol_by_token,
                device_id="a",
                token_sha256=await create_token(registry, "a"),
                csr=fresh_csr(),
                issue=issuer(clock, lifetime_s=60),
            )
            await registry.write(enrol)
            assert len(registry.view.certificates) == 1
            clock.now += 60 + 3601
            registry.forget_expired()
            assert registry.view.certificates == {}

    asyncio.run(main())


def test_slow_reads_never_keep_a_write_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_registry(tmp_path, Clock()) as registry:
            await add_device(registry, "a")
            go_on = threading.Event()
            slow = [
                asyncio.ensure_future(registry.read(lambda _connection: go_on.wait(20)))
                for _ in range(schema.READERS + 2)
            ]
            try:
                assert await asyncio.wait_for(store(registry, 1), timeout=10)
            finally:
                go_on.set()
            assert all(await asyncio.gather(*slow))

    asyncio.run(main())
