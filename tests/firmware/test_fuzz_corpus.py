"""What strangers send: the fuzzer's corpus on CPython and on boards, and mutations of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from device_interpreter import DEVICE_SCRIPTS, micropython_environment
from fuzz_targets import accepts, targets
from hypothesis import given
from hypothesis import strategies as st
from mtls.errors import MTLSError

CORPUS = Path(__file__).parent.parent / "corpus"
TARGETS = targets((CORPUS / "anchor.der").read_bytes())
INPUTS = {
    name: {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}
    for name in TARGETS
}
_FOOTPRINT = Path(__file__).parents[2] / "docs" / "reference" / "footprint.md"
_HEAP_KB = 256  # with every parser of the library in it, compiled on the spot


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_raises_nothing_but_the_librarys_errors(name: str) -> None:
    for label, data in INPUTS[name].items():
        taken = accepts(TARGETS[name], data)
        assert taken or not label.startswith("good"), f"{name}/{label} is right, and was refused"


def test_each_nearly_right_time_stamp_is_refused_by_a_rule_of_its_own() -> None:
    refusals = []
    for label, data in INPUTS["tsp"].items():
        if label.startswith("near"):
            with pytest.raises(MTLSError) as refused:
                TARGETS["tsp"](data)
            refusals.append(str(refused.value))
    assert len(set(refusals)) == len(refusals) >= 5


@st.composite
def mutated(draw: st.DrawFn, inputs: list[bytes]) -> bytes:
    """Draw an input with some octets changed, and a piece cut out or put in."""
    data = bytearray(draw(st.sampled_from(inputs)))
    for at, octet in draw(
        st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)
    ):
        if data:
            data[at % len(data)] = octet
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    data[start:end] = draw(
        st.binary(max_size=8) if draw(st.booleans()) else st.just(data[start:end])
    )
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_mutations_of_the_corpus_raise_nothing_else_either(name: str, data: st.DataObject) -> None:
    accepts(TARGETS[name], data.draw(mutated(list(INPUTS[name].values()))))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes_raise_nothing_else_either(name: str, data: bytes) -> None:
    accepts(TARGETS[name], data)


def most_bytes() -> int:
    """Return the heap that one input may take, garbage and all, as the documentation has it."""
    (stated,) = re.findall(r"at most ([\d,]+) bytes of heap", _FOOTPRINT.read_text("utf-8"))
    return int(stated.replace(",", ""))


def test_on_a_board_the_corpus_stays_within_its_memory(micropython: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [micropython, "-X", f"heapsize={_HEAP_KB}k", DEVICE_SCRIPTS / "replay_corpus.py", CORPUS],
        env=micropython_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    replayed = {}
    bound = most_bytes()
    for line in done.stdout.splitlines():
        name, tried, accepted, most = line.split()
        replayed[name] = (int(tried), int(accepted))
        assert int(most) <= bound, f"{name} took {most} bytes of heap for one input"
    assert replayed == {
        name: (len(inputs), sum(accepts(TARGETS[name], data) for data in inputs.values()))
        for name, inputs in INPUTS.items()
    }, "a board judges as CPython does"
