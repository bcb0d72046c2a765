"""An exception that a board raised, as an error that a user can act on."""

from __future__ import annotations

from handfast.errors import BoardProblem


class DeviceError(BoardProblem):
    """Code on the board raised: ``kind`` is its class, ``detail`` its text.

    ``traceback`` is the whole device traceback.
    """

    def __init__(self, message: str, *, kind: str, detail: str, traceback: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail
        self.traceback = traceback


class DeviceFull(DeviceError):
    """The board's file system has no room left."""


def device_error(url: str, traceback: str) -> DeviceError:
    """Return the error for a device ``traceback`` (MicroPython's text, last line the exception)."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "unknown error"
    kind, _, detail = last.partition(": ")
    facts = {"kind": kind, "detail": detail, "traceback": traceback}
    if kind == "OSError" and ("ENOSPC" in detail or detail.strip() == "28"):
        return DeviceFull(
            f"the file system of the board at {url} is full: remove files from it and try again",
            **facts,
        )
    if kind == "MemoryError":
        return DeviceError(
            f"the board at {url} ran out of memory ({detail}): reset it and try again", **facts
        )
    return DeviceError(f"the board at {url} raised {last}", **facts)
