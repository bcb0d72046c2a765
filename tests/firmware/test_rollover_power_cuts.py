"""The power fails at every flash operation of a rollover: the board keeps anchors that work."""

from __future__ import annotations

import shutil
from pathlib import Path

from cut_power import boot
from cut_rollover import AFTER, BEFORE, LOOK_AT, ROLL_AT, prepare, shown

from handfast.boards.simulator import SimulatedBoard

MOST_OPERATIONS = 200


def test_a_rollover_cut_anywhere_leaves_a_whole_set_of_anchors_and_is_finished_later(
    board: SimulatedBoard, tmp_path: Path
) -> None:
    prepare(board)
    prepared = Path(shutil.copy(board.flash_image, tmp_path / "prepared.img"))
    seen = []
    for operation in range(MOST_OPERATIONS):
        shutil.copy(prepared, board.flash_image)
        finished = boot(board, ROLL_AT, cut_after=operation) is not None
        told = boot(board, LOOK_AT)
        assert told is not None
        first, last = shown(told)
        # The gateway presents the old CA until the board has reported the new one.
        both = "server3" in first.tls and "new-root" in first.roots
        assert both or BEFORE[0] <= first.tls, f"cut at operation {operation}"
        assert both or BEFORE[1] <= first.roots, f"cut at operation {operation}"
        assert not first.left
        assert last.anchors == AFTER, f"cut at operation {operation}"
        seen.append(first.anchors)
        if finished:
            break
    assert finished
    steps = list(dict.fromkeys(seen))
    assert (steps[0], steps[-1]) == (BEFORE, AFTER)
    assert seen == sorted(seen, key=steps.index), "a later cut must not leave an earlier state"
    assert len(steps) == 5, "a new root, a new anchor, the old anchor gone, the old root gone"
