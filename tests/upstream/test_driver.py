"""`make test-upstream` says what it cannot do, with the exit code that the command line has."""

from __future__ import annotations

import pytest

from handfast.boards.definition import FOLDERS_VARIABLE, list_boards
from handfast.boards.virtual import virtual_boards
from handfast.boards.wokwi import TOKEN_VARIABLE
from tests.upstream.__main__ import main


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDERS_VARIABLE, "")  # so that what the driver sets is taken back
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("board", "status", "says"),
    [
        ("no-such-board", 2, "there is no board 'no-such-board'"),
        ("sim-pico-w=1.0.0", 3, "no source is pinned for micropython 1.0.0"),
        ("wokwi-esp32", 3, "Wokwi needs a token"),
    ],
)
def test_a_board_that_cannot_be_had_ends_it(
    board: str, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--board", board]) == status
    assert says in capsys.readouterr().err


def test_boards_that_cannot_run_here_are_named_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--board", "no-such-board"])
    said = capsys.readouterr().err
    assert "wokwi-esp32 is left out: Wokwi needs a token" in said
    known = set(virtual_boards())
    for name in set(list_boards(kind="emulated")) - known:  # the plugin could not lease it
        assert f"{name} is left out: " in said
