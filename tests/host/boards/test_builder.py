"""Building: once, together, interrupted, without tools, with broken sources."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handfast.boards import builder, products
from handfast.boards.archives import unpack
from handfast.boards.builder import build_simulator
from handfast.boards.make import Make
from handfast.boards.sources import cache_dir
from handfast.errors import EnvironmentProblem, UsageError
from handfast.resources import boards_dir

BUILD = (
    "from handfast.boards.builder import build_simulator\n"
    "print(build_simulator('sim-pico-w', progress=lambda text: print(text, flush=True)))"
)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, with the downloads and mpy-cross of the user's, to be quick."""
    build_simulator("sim-pico-w")
    usual = cache_dir()
    fresh = tmp_path / "cache" / "handfast"
    fresh.mkdir(parents=True)
    if (usual / "sources").is_dir():
        shutil.copytree(usual / "sources", fresh / "sources")
    for cross in (usual / "builds").glob("mpy-cross-*"):
        shutil.copytree(cross, fresh / "builds" / cross.name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh.parent))
    return fresh


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that work in ``folder`` or on files of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in words or cwd.startswith(str(folder)):
            found.append(words.replace("\0", " "))
    return found


def start_build() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, text=True)


def programs(cache: Path) -> list[Path]:
    return list((cache / "builds").glob("sim-pico-w-*/micropython"))


def test_a_second_build_is_there_at_once() -> None:
    first = build_simulator("sim-pico-w")
    before = time.monotonic()
    told: list[str] = []
    assert build_simulator("sim-pico-w", progress=told.append) == first
    assert told == []
    assert time.monotonic() - before < 1


def test_profiles_and_versions_do_not_share_a_build() -> None:
    assert build_simulator("sim-pico-w") != build_simulator("sim-esp32")


def test_a_build_option_is_a_build_of_its_own() -> None:
    with_option = build_simulator("sim-pico-w", options=["secure-element"])
    code = "import tls; print(hasattr(tls.SSLContext(0), 'ecdsa_sign_callback'))"
    for program, there in ((with_option, "True"), (build_simulator("sim-pico-w"), "False")):
        done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == there


def test_an_unknown_build_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no build option dtls13; there are: .*secure-element"):
        build_simulator("sim-pico-w", options=["dtls13"])


@pytest.mark.parametrize("version", ["1.25.0", "1.26.1"])
def test_the_program_is_the_version_asked_for(version: str) -> None:
    program = build_simulator("sim-pico-w", micropython=version)
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert f"MicroPython v{version}" in done.stdout


def test_a_changed_source_file_is_another_build(tmp_path: Path) -> None:
    shutil.copytree(boards_dir() / "sim", tmp_path / "sim")
    before = products.files_hash(tmp_path / "sim")
    (tmp_path / "sim" / "README.md").write_text("not compiled")
    assert products.files_hash(tmp_path / "sim") == before
    (tmp_path / "sim" / "flash.c").write_text("// changed")
    assert products.files_hash(tmp_path / "sim") != before


@pytest.mark.parametrize(("missing", "named"), [(("gcc",), "gcc"), (("gcc", "make"), "make, gcc")])
def test_missing_tools_are_named_with_the_command_that_installs_them(
    missing: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in {"gcc", "make"} - set(missing):
        real = shutil.which(tool)
        assert real is not None
        (tmp_path / tool).symlink_to(real)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=rf"needs {named}: run `apt install"):
        build_simulator("sim-pico-w")


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_nothing(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sim", "sim-pico-w"):
        shutil.copytree(boards_dir() / name, tmp_path / "boards" / name)
    (tmp_path / "boards" / "sim" / "mpconfigvariant.h").write_text("#error on purpose\n")
    monkeypatch.setattr(builder, "boards_dir", lambda: tmp_path / "boards")
    with pytest.raises(EnvironmentProblem, match="on purpose") as caught:
        build_simulator("sim-pico-w")
    logs = list((fresh_cache / "logs").iterdir())
    assert len(logs) == 1
    assert str(logs[0]) in str(caught.value)
    assert programs(fresh_cache) == []
    assert list((fresh_cache / "builds" / ".sim-pico-w-1.26.1").iterdir()) == []


def test_two_processes_that_ask_at_once_get_one_build(fresh_cache: Path) -> None:
    both = [start_build(), start_build()]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(programs(fresh_cache)) == 1
    assert [output.splitlines()[-1] for output in outputs] == [str(programs(fresh_cache)[0])] * 2
    built = [output for output in outputs if "building sim-pico-w" in output]
    waited = [output for output in outputs if "waiting for another build" in output]
    assert (len(built), len(waited)) == (1, 1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_builder_leaves_no_process_and_no_half_build(
    fresh_cache: Path, sent: signal.Signals
) -> None:
    work = fresh_cache / "builds" / ".sim-pico-w-1.26.1"
    with start_build() as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("building sim-pico-w"):
            assert process.poll() is None
        wait_until(lambda: any("make" in line for line in processes_in(work)), "make to run")
        os.kill(process.pid, sent)
        assert process.wait(20) != 0
    wait_until(lambda: not processes_in(work), "the build's processes to end")
    assert programs(fresh_cache) == []
    if sent == signal.SIGINT:
        assert list(work.iterdir()) == []
        return
    # It could not tidy up; the next one does, before it begins.
    (work / "left").mkdir()
    with start_build() as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("unpacking")
        assert len(list(work.iterdir())) == 1
        following.send_signal(signal.SIGINT)
    assert list(work.iterdir()) == []


def test_a_make_that_writes_nothing_ends_with_its_killed_builder(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@echo begun\n\t@sleep 600\n")
    script = (
        "import pathlib\nfrom handfast.boards.make import Make\n"
        f"make = Make(pathlib.Path({str(tmp_path)!r}), progress=lambda l: print(l, flush=True))\n"
        "make.run()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stderr is not None
        try:
            assert builder.stdout.readline() == b"begun\n"
            wait_until(lambda: any("sleep" in line for line in processes_in(tmp_path)), "the sleep")
        finally:
            builder.kill()
        wait_until(lambda: not processes_in(tmp_path), "make and its sleep to end")
        assert builder.stderr.read() == b""


def test_a_cache_folder_that_make_cannot_work_in_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with blank"))
    with pytest.raises(EnvironmentProblem, match="no blanks in paths; set XDG_CACHE_HOME"):
        build_simulator("sim-pico-w")
    assert list((tmp_path / "with blank" / "handfast").iterdir()) == []


def test_python_may_be_in_a_folder_with_a_blank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    (tmp_path / "Makefile").write_text("all:\n\t$(PYTHON) -c 'print(6 * 7)'\n")
    told: list[str] = []
    Make(tmp_path, progress=told.append).run()
    assert told == ["42\n"]


# ---- Unpacking ----


def archive(folder: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for member in members:
            content = b"x" if member.isfile() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_only_the_wanted_plain_files_are_unpacked(tmp_path: Path) -> None:
    link = tarfile.TarInfo("top/py/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    names = ("top/py/a.c", "top/docs/b", "top/py/deep/c.h")
    unpack(archive(tmp_path, link, *map(tarfile.TarInfo, names)), tmp_path / "out", parts=("py/",))
    files = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.*"))
    assert list(map(str, files)) == ["py/a.c", "py/deep/c.h"]
    assert not (tmp_path / "out" / "py" / "link").exists()


@pytest.mark.parametrize("name", ["top/py/../../../evil", "top//evil"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    evil = archive(tmp_path, tarfile.TarInfo(name))
    with pytest.raises(EnvironmentProblem, match="refuses to unpack"):
        unpack(evil, tmp_path / "out", parts=("",))


def test_what_is_not_an_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive")
    with pytest.raises(EnvironmentProblem, match=r"a\.tar: cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "out", parts=("",))


def ar_member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def debian_package(folder: Path, *members: bytes) -> Path:
    path = folder / "a.deb"
    path.write_bytes(b"!<arch>\n" + ar_member("debian-binary", b"2.0\n") + b"".join(members))
    return path


def test_the_files_of_a_debian_package_are_unpacked(tmp_path: Path) -> None:
    files = archive(tmp_path, *map(tarfile.TarInfo, ("./usr/src/a/b.c", "./usr/share/doc/c")))
    data = lzma.compress(files.read_bytes())
    control = ar_member("control.tar.xz", b"odd")  # members begin at even places
    package = debian_package(tmp_path, control, ar_member("data.tar.xz", data))
    unpack(package, tmp_path / "out", parts=("usr/src/",))
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == [tmp_path / "out" / "usr" / "src" / "a" / "b.c"]


@pytest.mark.parametrize(
    "members", [(), (b"\0" * 60,), (ar_member("data.tar.xz", b"\xfd7zXZ\0 cut short"),)], ids=str
)
def test_a_debian_package_without_files_is_told(tmp_path: Path, members: tuple[bytes, ...]) -> None:
    package = debian_package(tmp_path, *members)
    with pytest.raises(EnvironmentProblem, match=r"a\.deb: cannot be unpacked"):
        unpack(package, tmp_path / "out", parts=("",))


def test_what_is_shown_of_a_long_log_begins_at_the_compilers_first_error() -> None:
    log = ["CC a.c"] * 40 + ["b.c:1: error: on purpose"] + ["Traceback of a script"] * 60 + ["end"]
    told = products._telling_lines("\n".join(log))
    assert told[0] == "b.c:1: error: on purpose"
    assert told[-1] == "end"
    assert len(told) <= products._SHOWN_LINES
    assert products._telling_lines("\n".join(log[:42])) == log[42 - products._SHOWN_LINES : 42]
