"""What `mpremote mip install` copies is the whole library, no more and no less."""

import ast
import json
import re

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
