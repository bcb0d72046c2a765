"""The label of a board: its device_id to be read, and to be scanned as a QR code."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from handfast.errors import UsageError
from handfast.files import write_atomically

if TYPE_CHECKING:
    import segno

KINDS = (".svg", ".png")

_QUIET = 4  # modules of white around a code (ISO/IEC 18004)
_PNG_PIXELS = 8  # a module
# A common size of label printers' paper. Lines of 20 characters: a device_id has 63 at most.
_WIDTH_MM, _HEIGHT_MM = 62, 29
_QR_MM = 27
_LINE = 20
_LINE_MM = 3.4
_FONT_MM = 2.6


def _code(device_id: str) -> segno.QRCode:
    import segno

    return segno.make_qr(device_id, error="m")


def text(device_id: str, hardware_id: str) -> str:
    """Return the label for a terminal: light on dark, two modules a character."""
    rows = [list(row) for row in _code(device_id).matrix_iter(border=_QUIET)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    lines = [
        "".join(" ▄▀█"[2 * (not upper) + (not lower)] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]
    return "\n".join([*lines, device_id, f"hardware {hardware_id}", ""])


def svg(device_id: str, hardware_id: str) -> bytes:
    """Return the label as an SVG of 62 mm by 29 mm: the code, and both ids beside it."""
    code = _code(device_id)
    drawn = code.svg_inline(border=_QUIET, omitsize=True)
    placed = drawn.replace("<svg ", f'<svg x="1" y="1" width="{_QR_MM}" height="{_QR_MM}" ', 1)
    lines = [(line, "bold") for line in textwrap.wrap(device_id, _LINE)]
    lines += [(line, "normal") for line in textwrap.wrap(hardware_id, _LINE)]
    written = "".join(
        f'<text x="{_QR_MM + 2}" y="{5 + number * _LINE_MM:g}" font-weight="{weight}">'
        f"{escape(line)}</text>"
        for number, (line, weight) in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_MM}mm" height="{_HEIGHT_MM}mm" '
        f'viewBox="0 0 {_WIDTH_MM} {_HEIGHT_MM}" font-family="monospace" font-size="{_FONT_MM}">'
        f'<title>{escape(device_id)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f"{placed}{written}</svg>\n"
    ).encode()


def png(device_id: str) -> bytes:
    """Return the QR code alone as a PNG, 8 pixels a module."""
    out = io.BytesIO()
    _code(device_id).save(out, kind="png", scale=_PNG_PIXELS, border=_QUIET)
    return out.getvalue()


def write(path: Path, device_id: str, hardware_id: str) -> None:
    """Write the label to ``path``, whose ending says as what: .svg, or .png for the code alone.

    Raises:
        UsageError: another ending.
        OSError: it cannot be written; an older label stays.
    """
    require_kind(path)
    svg_or_png = svg(device_id, hardware_id) if path.suffix == ".svg" else png(device_id)
    write_atomically(path, svg_or_png)


def require_kind(path: Path) -> None:
    """Refuse a name that says nothing of how a label is written.

    Raises:
        UsageError: it ends in neither .svg nor .png.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"{path}: a label's name ends in {' or '.join(KINDS)}")
