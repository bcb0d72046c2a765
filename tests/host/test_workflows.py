"""What the workflows run is what people run: the CI script, make's targets, tested scripts.

Linted by actionlint. Its own packages fetch a program from a place that this project's machines do
not reach; a fork's wheel carries one, and pyproject.toml pins it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Its scripts are no targets: tests/end_to_end/test_reusable_workflow.py runs them as they stand.
REUSABLE = ROOT / ".github" / "workflows" / "test-boards.yml"
HOW_TO = ROOT / "docs" / "how-to" / "test-in-ci.md"
MATRIX = "${{ matrix.command }}"
_QUICK = "test_code_on_the_board_gives_values_of_python"
ACTIONLINT = Path(sys.executable).with_name("actionlint")
linted = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64", "arm64"), reason="no wheel of actionlint"
)


def read(workflow: Path) -> dict[Any, Any]:
    read: dict[Any, Any] = yaml.safe_load(workflow.read_text("utf-8"))
    return read


def jobs(workflow: Path) -> list[dict[str, Any]]:
    return list(read(workflow)["jobs"].values())


def triggers(workflow: Path) -> dict[str, Any]:
    triggers: dict[str, Any] = read(workflow)[True]  # "on", as YAML 1.1 has it
    return triggers


def commands(workflow: Path) -> list[str]:
    """Return each command of a workflow, those of a matrix one by one."""
    found = []
    for job in jobs(workflow):
        runs = [step["run"] for step in job["steps"] if "run" in step]
        found += [run for run in runs if run != MATRIX]
        if MATRIX in runs:
            found += job["strategy"]["matrix"]["command"]
    return found


def lint(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ACTIONLINT, *map(str, arguments)],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_is_one_that_people_run_too(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    ran = [command for command in commands(workflow) if not command.startswith("apt-get ")]
    assert ran
    if workflow == REUSABLE:
        return
    for command in ran:
        words = command.split()
        assert words == ["bash", ".ci/run"] or (words[0] == "make" and words[1] in targets), command


# What a target's recipe runs → the test that runs it as well. (`make test` has tests/wokwi_cloud.)
RUN_BY = {
    "handfast demo": "end_to_end/test_demo.py",
    "tests.power_cuts": "power_cuts/test_power_cuts.py",
    "tests.upstream": "upstream/test_driver.py",
    "tests.fuzz": "host/test_long_commands.py",
    "tests.soak": "emulated/test_soak.py",
    "benchmarks.device": "host/test_long_commands.py",
    "benchmarks.emulated": "host/test_long_commands.py",
    "benchmarks.firmware_matrix": "emulated/test_firmware_matrix.py",
    "benchmarks.harness": "host/test_long_commands.py",
}
CALLS = {
    "handfast demo": r'"-m", "handfast", "demo"',
    "tests.fuzz": r'"-m", "tests.fuzz"',
    "benchmarks.device": r"\bdevice\.main\(\)",
    "benchmarks.emulated": r"\bemulated\.main\(\)",
    "benchmarks.firmware_matrix": r"\bfirmware_matrix\.main\(\)",
    "benchmarks.harness": r"\bbench_harness\.main\(\)",
}


def recipe(target: str) -> str:
    """Return what make would run for a target, whatever the make that runs this test was told."""
    told = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS")
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target, "WOKWI_CLI_TOKEN=x"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in told},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def test_every_command_is_one_that_the_ci_script_or_a_test_runs_too() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    of_ci = re.search(r"for target in (.*); do", script)
    assert of_ci
    ran = {
        command for workflow in WORKFLOWS if workflow != REUSABLE for command in commands(workflow)
    }
    targets = {command.split()[1] for command in ran if command.startswith("make ")}
    for target in targets - set(of_ci[1].split()):
        line = recipe(target)
        if line.endswith("pytest tests/wokwi_cloud"):
            continue
        found = re.search(r"bin/(handfast demo)|-m ([a-z_.]+)", line)
        assert found, f"make {target} runs {line}"
        what = found[1] or found[2]
        test = (ROOT / "tests" / RUN_BY[what]).read_text("utf-8")
        called = CALLS.get(what, rf"from {re.escape(what)}\.__main__ import main\b")
        assert re.search(called, test), f"{RUN_BY[what]} does not run {what}"
        assert "main(" in test or "subprocess.run" in test or "Popen" in test


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends_by_itself(workflow: Path) -> None:
    assert read(workflow)["permissions"] == {"contents": "read"}
    for job in jobs(workflow):
        minutes = job["timeout-minutes"]
        if workflow == REUSABLE:
            inputs = triggers(workflow)["workflow_call"]["inputs"]
            minutes = inputs[minutes.removeprefix("${{ inputs.").removesuffix(" }}")]["default"]
        assert minutes <= 360


# What takes too long for a push (issues 4 and 6).
EVERY_NIGHT = {
    "make bench-device",
    "make bench-emulated",
    "make firmware-matrix",
    "make fuzz",
    "make power-cuts",
    "make soak",
    "make test-upstream",
    'make demo ARGS="--boards 50"',
    'make demo ARGS="--board qemu-mps2 --boards 1"',
}


def test_what_takes_long_runs_every_night() -> None:
    nightly = ROOT / ".github" / "workflows" / "nightly.yml"
    assert "schedule" in triggers(nightly)
    assert set(commands(nightly)) >= EVERY_NIGHT


def test_boards_in_wokwi_run_by_schedule_exactly_where_the_secret_is() -> None:
    wokwi = ROOT / ".github" / "workflows" / "wokwi.yml"
    assert all(entry["cron"] for entry in triggers(wokwi)["schedule"])
    (job,) = jobs(wokwi)
    assert job["env"] == {"WOKWI_CLI_TOKEN": "${{ secrets.WOKWI_CLI_TOKEN }}"}
    assert "if" not in job  # no job's condition may read secrets, or its own env
    assert {step["if"] for step in job["steps"]} == {"env.WOKWI_CLI_TOKEN != ''"}
    assert job["steps"][-1]["run"] == "make test-wokwi"
    assert not any("env" in step or "continue-on-error" in step for step in job["steps"])


def test_lint_tests_and_demo_run_for_every_change() -> None:
    ci = ROOT / ".github" / "workflows" / "ci.yml"
    assert {"push", "pull_request"} <= set(triggers(ci))
    assert {"bash .ci/run", "make demo"} <= set(commands(ci))
    script = (ROOT / ".ci" / "run").read_text()
    assert "for target in lint test" in script


def test_strangers_code_is_not_run_beside_boards() -> None:
    for workflow in WORKFLOWS:
        own = [job for job in jobs(workflow) if "self-hosted" in job["runs-on"]]
        if own:
            assert not {"pull_request", "pull_request_target", "push"} & set(triggers(workflow))
            assert "cancel-in-progress" in read(workflow)["concurrency"]


def test_the_boards_command_is_one_that_pytest_takes(tmp_path: Path) -> None:
    (command,) = commands(ROOT / ".github" / "workflows" / "hil.yml")
    target, arguments = shlex.split(command.replace("$HOME", str(tmp_path)))[1:]
    assert target == "test"
    (tmp_path / "handfast-bench.toml").write_text('[board.one]\nurl = "/dev/no-such-port"\n')
    words = shlex.split(arguments.removeprefix("ARGS="))
    words = [word for word in words if not word.startswith(("--handfast-report", "--junitxml"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "--collect-only", "-q", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("tests/hil/") >= 10


@pytest.mark.timeout(900)  # the first of a machine builds the board's firmware
def test_the_emulated_boards_command_takes_all_of_the_suite_and_one_of_it_passes() -> None:
    """The whole takes minutes; with --collect-only alone a board that does not start would pass."""
    (command,) = [
        command
        for command in commands(ROOT / ".github" / "workflows" / "nightly.yml")
        if "tests/hil" in command
    ]
    target, arguments = shlex.split(command)[1:]
    assert target == "test"
    words = shlex.split(arguments.removeprefix("ARGS="))
    pytest_here = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", *words]
    for more, status in ((["--collect-only"], "tests collected"), (["-k", _QUICK], "1 passed")):
        done = subprocess.run(
            [*pytest_here, *more],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert status in done.stdout
        if more == ["--collect-only"]:
            assert done.stdout.count("tests/hil/") >= 10


# actionlint


@linted
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actionlint_finds_nothing(workflow: Path) -> None:
    done = lint("-shellcheck=", "-pyflakes=", workflow.relative_to(ROOT))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@linted
@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("run: echo ${{ github.event.issue.title }}", "potentially untrusted"),
        ("run: make ${{ matrix.command }}", 'property "command" is not defined'),
        ("{uses: actions/checkout@v5, with: {branch: main}}", 'input "branch" is not defined'),
    ],
)
def test_actionlint_would_find_something(step: str, said: str) -> None:
    job = f"  run:\n    runs-on: ubuntu-latest\n    steps:\n      - {step}\n"
    done = lint("-no-color", "-", text=f"on: push\njobs:\n{job}")
    assert done.returncode == 1
    assert said in done.stdout


# The how-to for projects that call the reusable workflow

_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def callers() -> list[tuple[str, Mapping[str, Any]]]:
    """Return each workflow of the how-to, as if it stood in this repository, and what it calls."""
    found = []
    for text in _BLOCK.findall(HOW_TO.read_text("utf-8")):
        local = re.sub(r"uses: OWNER/handfast/(\S+)@\S+", r"uses: ./\1", text)
        assert local != text, f"a block that calls nothing:\n{text}"
        found.append((local, yaml.safe_load(local)))
    return found


@linted
def test_what_the_how_to_shows_is_accepted_by_actionlint_and_by_the_workflow() -> None:
    assert len(callers()) >= 2
    inputs = triggers(REUSABLE)["workflow_call"]["inputs"]
    for text, workflow in callers():
        done = lint("-no-color", "-stdin-filename", ".github/workflows/user.yml", "-", text=text)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
        for job in workflow["jobs"].values():
            assert job["uses"] == "./.github/workflows/test-boards.yml"
            for name, value in job.get("with", {}).items():
                assert name in inputs
                if name == "runner":
                    assert json.loads(value)


def test_the_how_to_names_every_input() -> None:
    text = HOW_TO.read_text("utf-8")
    for name in triggers(REUSABLE)["workflow_call"]["inputs"]:
        assert f"`{name}`" in text, name
