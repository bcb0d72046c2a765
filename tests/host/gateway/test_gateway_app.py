from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Requester
from gateway_rig import Peer, open_rig
from starlette.types import Message

from handfast.gateway import est
from handfast.pki.authorities import Authority


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/ca/root.cer",
        "headers": [],
        "query_string": b"",
        "extensions": {"handfast": {"listener": "public", "peer": Peer("public")}},
    }


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("gone_at", ["http.response.start", "http.response.body"])
def test_a_peer_that_has_gone_was_not_served_and_is_no_failure_of_ours(
    tmp_path: Path, authorities: dict[str, Authority], gone_at: str
) -> None:
    async def send(message: Message) -> None:
        if message["type"] == gone_at:
            raise ConnectionResetError

    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            await rig.app(scope(), receive, send)
            (line,) = rig.log
            assert (line["event"], line["slug"]) == ("request", "disconnected")
            assert line["status"] is None

    asyncio.run(main())


@pytest.mark.parametrize("aborted_at", ["http.response.start", "http.response.body"])
def test_a_request_that_a_revocation_cuts_off_is_not_logged_as_served(
    tmp_path: Path, authorities: dict[str, Authority], aborted_at: str
) -> None:
    async def main() -> None:
        sending = asyncio.Event()

        async def send(message: Message) -> None:
            if message["type"] == aborted_at:
                sending.set()
                await asyncio.Event().wait()  # a peer that reads slowly

        async with open_rig(tmp_path, authorities) as rig:
            call = asyncio.create_task(rig.app(scope(), receive, send))
            await asyncio.wait_for(sending.wait(), 10)
            call.cancel()
            await asyncio.wait([call], timeout=10)
            assert call.cancelled()
            (line,) = rig.log
            assert (line["event"], line["slug"], line["status"]) == ("request", "aborted", None)

    asyncio.run(main())


def test_a_request_is_logged_with_its_connection_as_a_refused_handshake_is(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def send(message: Message) -> None:
        pass

    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            await rig.app(scope(), receive, send)
            assert rig.log[-1]["peer"] == Peer("public").address

    asyncio.run(main())


def test_a_failure_of_ours_is_answered_500_and_logged_with_its_cause(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            del rig.gateway.urls["api"]
            answer = await rig.admin("GET", "trust")
            assert answer.status_code == 500
            assert answer.json()["type"] == "urn:handfast:error:internal"
            assert "KeyError" not in answer.text
            failed = next(line for line in rig.log if line["event"] == "request_failed")
            assert failed["error"] == "KeyError"
            assert any("admin.py" in frame for frame in failed["where"])

    asyncio.run(main())


def test_a_failure_of_ours_is_logged_without_what_it_quotes(
    tmp_path: Path, authorities: dict[str, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_token: str) -> bytes:
        raise ValueError(f"cannot hash {_token}")

    monkeypatch.setattr(est, "token_hash", fail)

    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            await rig.add("a")
            token = await rig.token()
            answer = await rig.enrol(Requester.new(), token=token)
            assert answer.status_code == 500
            assert token not in repr([(line, line.get("exc_info")) for line in rig.log])

    asyncio.run(main())
