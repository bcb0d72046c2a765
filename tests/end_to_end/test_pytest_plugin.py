"""The plugin as users have it: registered by its entry point, in a project of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin_support import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_issues_example_runs_as_it_stands(project: Project) -> None:
    project.write(
        "test_power.py",
        """
import pytest

@pytest.mark.board(capabilities=["power_cut"])
def test_reports_after_power_loss(board, gateway):
    device = board.provision(gateway)
    with board.power_cut(at="any"):
        board.call("app.report", 21.5)
    assert gateway.wait_for_telemetry(device, timeout_s=10)
""",
    )
    outcome = project.run()
    assert outcome.status == 0, outcome.text
    assert outcome.counted("passed") == 1


SECRET = "hunter2-" + "correct-horse"

REPORTED = f'''
import pytest

def test_passes(board, gateway):
    device = board.provision(gateway)
    assert gateway.wait_for_telemetry(device, timeout_s=30)
    assert gateway.wait_for_telemetry(device, timeout_s=30)

def test_fails_on_the_board(board, gateway):
    board.provision(gateway)
    board.call("app.fail", "no <good>")

def test_tells_secrets(board, gateway, pki):
    device = board.provision(gateway)
    made = gateway.admin.create_token(device.device_id, lifetime_s=60)["token"]
    print("printed", made)
    board.exec("print('on the console', %r)" % made)
    board.exec("for part in 'BEGIN', 'MHc' + 'CAQEE', 'END':\\n"
               " print(part if len(part) > 5 else '-----%s EC PRIVATE KEY-----' % part)")
    board.exec("print('wifi password=\\"{SECRET}\\"')")
    open("told", "w").write(made + "\\n" + pki.passphrase.decode())
    assert made == pki.passphrase

def test_wifi(board, gateway):
    gateway.networks
    board.exec("print({SECRET[:-2]!r} + {SECRET[-2:]!r})")

@pytest.mark.board(capabilities=["real_radio"])
def test_wants_a_radio(board):
    pass

def test_without_a_board():
    pass
'''


def test_a_report_carries_all_that_the_boards_said_and_no_secret(project: Project) -> None:
    project.write("test_reports.py", REPORTED)
    outcome = project.run(
        "--junitxml=junit.xml",
        "--handfast-report=out/report.html",
        "-rA",
        "-o",
        "junit_logging=all",
        env={"HANDFAST_WIFI_SSID": "", "HANDFAST_WIFI_PASSWORD": SECRET},
    )
    text, page = outcome.text, (project.folder / "out/report.html").read_text()
    assert (outcome.status, outcome.counted("passed"), outcome.counted("failed")) == (1, 3, 2), text
    assert outcome.counted("skipped") == 1
    assert "no board has the capabilities real_radio (sim-pico-w has clock, power_cut" in text

    # The board's own traceback leads to the line in the project.
    source = project.folder / "device/app.py"
    number = next(
        n for n, line in enumerate(source.read_text().splitlines(), 1) if "ValueError" in line
    )
    assert f"→ {source}:{number}: raise ValueError(value)" in text
    assert f"→ {source}:{number}: raise ValueError(value)" in page
    assert "no &lt;good&gt;" in page
    assert "<good>" not in page

    # Console with times, figures and plots.
    cases = {case.get("name"): case for case in project.junit().iter("testcase")}
    said = {p.get("name"): p.get("value") for p in cases["test_passes"].iter("property")}
    board = said["handfast_board"]
    assert board is not None
    assert board.startswith("sim-pico-w-")
    assert re.search(
        r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00 mtls: boot ", said[f"handfast_console_{board}"]
    )
    assert len(said["handfast_heap_free"].split()) >= 2
    answers = cases["test_tells_secrets"].iter("property")
    told = {p.get("name"): p.get("value") or "" for p in answers}
    assert len(told["handfast_answer_ms"].split()) == 3  # three times exec
    assert float(told["handfast_heap_free_median"]) > 1000  # no application reported it
    assert float(said["handfast_handshake_ms_median"]) > 0
    assert said["handfast_rotation"] == "1"
    for title in ("TLS handshake (ms)", "free heap (bytes)", "certificates issued"):
        assert title in page
    assert "<polyline" in page
    assert not re.search(r"""(?:src|href)=|url\(|@import""", page)

    # The token, the passphrase, the key and the password were all shown by the test.
    shown = text + page + (project.folder / "junit.xml").read_text()
    for secret in (*(project.folder / "told").read_text().split(), SECRET, "MHcCAQEE"):
        assert secret not in shown
    assert "on the console [secret]" in page
    assert "printed [secret]" in text


def test_each_worker_has_boards_of_its_own(project: Project) -> None:
    project.write(
        "test_many.py",
        """
import os, pathlib, pytest, time

@pytest.mark.parametrize("number", range(4))
@pytest.mark.boards(2)
def test_it(boards, number):
    for board in boards:
        board.exec("print('here')")
    name = os.environ["PYTEST_XDIST_WORKER"] + f".{number}"
    pathlib.Path(name).write_text("\\n".join(board.name for board in boards))
    # A worker that is done may lend its boards to one that has only now begun.
    give_up = time.monotonic() + 60
    while not all(any(pathlib.Path().glob(worker + ".*")) for worker in ("gw0", "gw1")):
        assert time.monotonic() < give_up, "the other worker has no boards"
        time.sleep(0.02)
""",
    )
    outcome = project.run("-n", "2", "--dist", "load", "--handfast-report=report.html")
    assert outcome.status == 0, outcome.text
    used: dict[str, set[str]] = {}
    for file in project.folder.glob("gw*.*"):
        used.setdefault(file.stem, set()).update(file.read_text().split())
    assert len(used) == 2
    assert not set.intersection(*used.values())
    assert all(len(names) == 2 for names in used.values())  # and uses them again
    page = (project.folder / "report.html").read_text()
    assert page.count("here</pre>") == 8


HANGS = """
import os, pytest, signal

FOR_EVER = "import micropython\\nmicropython.kbd_intr(-1)\\nwhile True:\\n pass"

def test_hangs_until_reset(board):
    board.exec(FOR_EVER, timeout_s=0.5)

def test_hangs_until_power_cycled(board):
    os.kill(board.bench.pid, signal.SIGSTOP)
    board.exec("print(1)", timeout_s=0.5)

def test_hangs_for_good(board):
    board.exec("print('last words')")
    board.bench.reset = board.bench.power_cycle = lambda **_: None  # a relay that sticks
    os.kill(board.bench.pid, signal.SIGSTOP)
    board.exec("print(1)", timeout_s=0.5)

def test_panics_for_good(board):
    board.bench.reset = board.bench.power_cycle = lambda **_: None
    board.exec("import micropython, time\\nmicropython.kbd_intr(-1)\\n"
               "while True:\\n print('Guru Meditation')\\n time.sleep(0.2)", timeout_s=0.5)

def test_goes_on(board):
    board.exec("print(1)")
    open("went-on", "w").write(board.name)
"""


def test_a_board_that_hangs_is_reset_then_power_cycled_then_quarantined(project: Project) -> None:
    project.write("test_hang.py", HANGS)
    outcome = project.run("--junitxml=junit.xml", "-rA")
    text = outcome.text
    assert (outcome.status, outcome.counted("failed"), outcome.counted("passed")) == (1, 4, 1), text
    notes = {
        case.get("name"): next(
            (p.get("value") for p in case.iter("property") if "_notes_" in str(p.get("name"))), None
        )
        for case in project.junit().iter("testcase")
    }
    assert notes["test_hangs_until_reset"] == "it does not answer; reset: it answers again"
    assert notes["test_hangs_until_power_cycled"] == (
        "it does not answer; reset: no answer; power cycle: it answers again"
    )
    assert notes["test_hangs_for_good"] == (
        "it does not answer; reset: no answer; power cycle: no answer; "
        "it is in quarantine until this run ends"
    )
    assert "boards that did not answer" in text
    assert "last words" in text
    summary = text.partition("boards that did not answer")[2]
    assert re.search(r"^    \d{4}-\S+ Guru Meditation$", summary, re.MULTILINE)
    assert "+00:00 Guru Meditation" in (project.folder / "junit.xml").read_text()
    said = text.partition("boards that did not answer")[2]
    assert f"{(project.folder / 'went-on').read_text()} (" not in said


def test_repetitions_show_which_tests_flake_and_on_which_board(project: Project) -> None:
    project.write(
        "test_flaky.py",
        """
import pathlib, pytest

@pytest.mark.parametrize("what", ["a"])
def test_flaky(board, what):
    seen = pathlib.Path("seen")
    runs = len(seen.read_text()) if seen.exists() else 0
    seen.write_text("x" * (runs + 1))
    assert runs != 1

def test_steady():
    pass

def test_broken():
    assert False
""",
    )
    outcome = project.run("--handfast-repeat=3")
    text = outcome.text
    assert (outcome.counted("passed"), outcome.counted("failed")) == (5, 4), text
    said = text.partition("flaky tests")[2]
    name = r"test_flaky.py::test_flaky\[a\]: failed 1 of 3 \(sim-pico-w-\d+: 1 of 3\)"
    assert re.search(name, said)
    assert "test_steady: " not in said
    assert "test_broken: " not in said
    assert "flaky tests" not in project.run("-k", "steady").text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--handfast-board=hardware"], "names no board"),
        (["--handfast-board=esp9000"], "there is no board 'esp9000'"),
        (["--handfast-repeat=0"], "--handfast-repeat"),
    ],
)
def test_what_is_not_there_is_a_usage_error(
    project: Project, options: list[str], said: str
) -> None:
    project.write("test_it.py", "def test_it():\n    pass\n")
    outcome = project.run(*options)
    assert outcome.status == pytest.ExitCode.USAGE_ERROR, outcome.text
    assert said in outcome.text


def test_the_plugin_named_twice_is_registered_once(project: Project) -> None:
    project.write("conftest.py", "pytest_plugins = ['handfast.lab.pytest_plugin']\n")
    project.write("test_it.py", "def test_it():\n    pass\n")
    outcome = project.run("-p", "handfast.lab.pytest_plugin")
    assert outcome.status == 0, outcome.text


def test_a_run_without_boards_imports_nothing_heavy(project: Project) -> None:
    project.write("conftest.py", "import sys\nBEFORE = set(sys.modules)\n")
    project.write(
        "test_it.py",
        """
import sys

HEAVY = ("cryptography", "OpenSSL", "httpx", "sqlalchemy", "starlette", "rich", "mpremote",
         "serial", "asyncio", "click", "structlog", "handfast.boards", "handfast.gateway",
         "handfast.pki", "handfast.admin_client", "labgrid", "grpc")

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("handfast.lab.pytest_plugin")
    assert not [name for name in HEAVY if name in sys.modules]
""",
    )
    others = ("no:xdist", "no:hypothesispytest", "no:anyio", "no:labgrid")
    outcome = project.run(*(word for name in others for word in ("-p", name)))
    assert outcome.status == 0, outcome.text
