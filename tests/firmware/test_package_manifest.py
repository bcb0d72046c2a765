"""What `mpremote mip install` copies and a firmware freezes is the whole library, and no more."""

import ast
import json
import re
import subprocess
import sys

import pytest

from handfast.boards.archives import unpack
from handfast.boards.sources import fetch, find_source
from handfast.resources import firmware_dir


def test_package_json_names_every_module_once():
    package = json.loads((firmware_dir() / "package.json").read_text())
    modules = sorted(f"mtls/{path.name}" for path in (firmware_dir() / "mtls").glob("*.py"))
    assert sorted(target for target, _ in package["urls"]) == modules
    assert all(target == source for target, source in package["urls"])


def test_package_json_has_the_library_s_version():
    import mtls

    package = json.loads((firmware_dir() / "package.json").read_text())
    assert package["version"] == mtls.__version__


def test_only_modules_that_are_there_are_loaded_and_let_go_of():
    source = (firmware_dir() / "mtls/loading.py").read_text()  # it imports what CPython lacks
    residents = ast.literal_eval(re.search(r"^RESIDENTS = (\(.*?\n\))", source, re.S | re.M)[1])
    from mtls import heap

    listed = residents + heap.VISITORS
    assert len(set(listed)) == len(listed)
    assert all((firmware_dir() / "mtls" / f"{name}.py").is_file() for name in listed)


# manifest.py, executed by MicroPython's own tool


@pytest.fixture(scope="module", params=["1.25.0", "1.26.1"])
def manifestfile(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("micropython")
    unpack(
        fetch(find_source("micropython", request.param)), folder, parts=("tools/manifestfile.py",)
    )
    return folder / "tools/manifestfile.py"


LIST = """
import json, sys
sys.path.insert(0, sys.argv[1])
import manifestfile
names = ("MPY_DIR", "MPY_LIB_DIR", "PORT_DIR", "BOARD_DIR")
manifest = manifestfile.ManifestFile(manifestfile.MODE_FREEZE, dict.fromkeys(names))
manifest.execute(sys.argv[2])
frozen = manifestfile.KIND_FREEZE_AS_MPY
print(json.dumps([[f.target_path, f.full_path, f.kind == frozen, f.opt] for f in manifest.files()]))
"""


def frozen(manifestfile, manifest, cwd):
    done = subprocess.run(
        [sys.executable, "-c", LIST, manifestfile.parent, manifest],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def require_library(files):
    """Each module once, as bytecode without asserts and line numbers."""
    modules = sorted((firmware_dir() / "mtls").glob("*.py"))
    assert sorted(target for target, *_ in files) == [f"mtls/{path.name}" for path in modules]
    assert sorted(path for _, path, *_ in files) == [str(path) for path in modules]
    assert {(is_bytecode, opt) for *_, is_bytecode, opt in files} == {(True, 3)}


def test_manifest_freezes_every_module_once(manifestfile, tmp_path):
    require_library(frozen(manifestfile, firmware_dir() / "manifest.py", tmp_path))


def test_manifest_may_be_included_by_a_board_s_own(manifestfile, tmp_path):
    board = tmp_path / "board" / "manifest.py"
    board.parent.mkdir()
    board.write_text(f"include({str(firmware_dir() / 'manifest.py')!r})\n")
    require_library(frozen(manifestfile, board, tmp_path))
