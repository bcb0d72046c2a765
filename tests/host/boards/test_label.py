"""A board's label: what a scanner reads off it is the device_id, and people read both ids."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest
import zxingcpp

from handfast.boards import label
from handfast.errors import UsageError

HARDWARE = "e6614c311b7e6f35"
_SCALE = 4
_SVG = "{http://www.w3.org/2000/svg}"


def scanned(rows: list[list[bool]]) -> str:
    """Read a code, given as rows of dark modules, as a scanner does."""
    wide = [[dark for dark in row for _ in range(_SCALE)] for row in rows for _ in range(_SCALE)]
    pixels = bytes(0 if dark else 255 for row in wide for dark in row)
    image = memoryview(pixels).cast("B", (len(wide), len(wide[0])))
    (code,) = zxingcpp.read_barcodes(image)
    return str(code.text)


def rows_of_text(text: str) -> list[list[bool]]:
    rows: list[list[bool]] = []
    for line in text.splitlines():
        if set(line) <= set(" ▄▀█") and line:
            rows.append([mark not in "▀█" for mark in line])
            rows.append([mark not in "▄█" for mark in line])
    return rows


def rows_of_png(png: bytes) -> list[list[bool]]:
    """Read a PNG of one bit a pixel: all that segno writes here."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    depth, colour = png[24], png[25]
    assert (depth, colour) == (1, 0)
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    lines = zlib.decompress(data)
    size = 1 + (width + 7) // 8
    rows = []
    above = bytes(size)
    for y in range(height):
        line = lines[y * size : (y + 1) * size]
        assert line[0] in (0, 2)  # as it is, or less what is above (PNG 9.2)
        if line[0] == 2:
            line = bytes((low + high) % 256 for low, high in zip(line, above, strict=True))
        above = line
        rows.append([not line[1 + x // 8] >> (7 - x % 8) & 1 for x in range(width)])
    return rows


def rows_of_svg(svg: bytes) -> list[list[bool]]:
    """Draw the strokes of the code: horizontal runs of dark modules, relative to one another."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    (inner,) = root.findall(f"{_SVG}svg")
    side = int(inner.attrib["viewBox"].split()[2])
    (path,) = inner.findall(f"{_SVG}path")
    rows = [[False] * side for _ in range(side)]
    x = y = 0.0
    for command, given in re.findall(r"([Mmh])([-\d. ]+)", path.attrib["d"]):
        numbers = [float(number) for number in given.split()]
        if command == "h":
            for dark in range(int(x), int(x + numbers[0])):
                rows[int(y)][dark] = True
            x += numbers[0]
        else:
            dx, dy = numbers
            x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
    return rows


@pytest.mark.parametrize("device_id", ["a", "sim-pico-w-1234abcd", "x" * 63])
def test_every_form_of_a_label_scans_as_the_device_id(device_id: str, tmp_path: Path) -> None:
    assert scanned(rows_of_text(label.text(device_id, HARDWARE))) == device_id
    assert scanned(rows_of_svg(label.svg(device_id, HARDWARE))) == device_id
    label.write(tmp_path / "label.png", device_id, HARDWARE)
    assert scanned(rows_of_png((tmp_path / "label.png").read_bytes())) == device_id


def test_people_can_read_both_ids(tmp_path: Path) -> None:
    device_id = "board-" + "0123456789" * 5
    label.write(tmp_path / "label.svg", device_id, HARDWARE)
    root = ElementTree.fromstring((tmp_path / "label.svg").read_bytes())  # noqa: S314
    written = [text.text or "" for text in root.findall(f"{_SVG}text")]
    assert "".join(written) == device_id + HARDWARE
    # Within the paper: 62 mm by 29 mm, about 1.6 mm a character.
    assert all(29 + 1.6 * len(line) <= 62 for line in written)
    assert all(float(text.attrib["y"]) < 29 for text in root.findall(f"{_SVG}text"))
    told = label.text(device_id, HARDWARE)
    assert device_id in told
    assert HARDWARE in told


def test_a_name_that_says_no_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        label.write(tmp_path / "label.pdf", "a", HARDWARE)
    assert list(tmp_path.iterdir()) == []
