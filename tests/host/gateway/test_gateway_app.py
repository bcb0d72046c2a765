from __future__ import annotations

import asyncio
from pathlib import Path

from gateway_rig import Peer, open_rig
from starlette.types import Message

from handfast.pki.authorities import Authority


def test_a_peer_that_has_gone_is_no_failure_of_ours(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        raise ConnectionResetError

    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/ca/root.cer",
                "headers": [],
                "query_string": b"",
                "extensions": {"handfast": {"listener": "public", "peer": Peer("public")}},
            }
            await rig.app(scope, receive, send)
            (line,) = rig.log
            assert (line["event"], line["slug"]) == ("request", "disconnected")

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
            assert isinstance(failed["exc_info"], KeyError)

    asyncio.run(main())
