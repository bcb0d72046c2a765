"""Cuts a TLS record in half on its way (RFC 8446 §5.1: type, version, length, then that much)."""

from __future__ import annotations

_HEADER_BYTES = 5
HANDSHAKE, APPLICATION_DATA = 22, 23


class RecordCutter:
    """Follows one direction of a TLS connection from its first byte on."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def pass_on(self, chunk: bytes, wanted: int | None) -> tuple[bytes, bool]:
        """Return what of a chunk is to be sent, and whether it ends within a record of that type.

        Args:
            chunk: the next bytes.
            wanted: the type of the record to cut; None cuts none.
        """
        passed = bytearray()
        while chunk:
            if not self._left:
                missing = _HEADER_BYTES - len(self._header)
                self._header, chunk = self._header + chunk[:missing], chunk[missing:]
                if len(self._header) < _HEADER_BYTES:
                    break
                kind, self._left = self._header[0], int.from_bytes(self._header[3:])
                passed += self._header
                self._header = b""
                if kind == wanted:
                    return bytes(passed + chunk[: self._left // 2]), True
            passed += chunk[: self._left]
            self._left, chunk = max(0, self._left - len(chunk)), chunk[self._left :]
        return bytes(passed), False
