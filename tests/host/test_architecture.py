"""Who may import whom: the arrows of the design, read from the source; lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "host" / "handfast"
DEVICE = ROOT / "firmware" / "mtls"

# What any part may stand on, and what each part may import besides itself.
_SHARED = {"errors", "files", "resources", "state", "unix_socket", "wire", "handfast"}
_MAY_IMPORT = {
    "pki": _SHARED,
    "admin_client": _SHARED,
    "est_client": _SHARED | {"pki"},
    "gateway.server": _SHARED,
    "gateway": _SHARED | {"pki", "gateway.server"},
    "boards": _SHARED | {"pki", "admin_client", "est_client"},
    "lab": _SHARED | {"pki", "admin_client", "est_client", "gateway", "boards"},
    "cli": _SHARED | {"pki", "admin_client", "gateway", "boards", "lab"},
    "__main__": {"cli"},
    **dict.fromkeys(_SHARED, _SHARED),
}

# The device's library from bottom to top: a module imports its own layer and those below.
_LAYERS = (
    {"errors", "plan", "_p256_table", "heap", "room", "drift", "watchdog", "window"},
    {"failure"},
    {"der", "utc", "url", "drbg"},
    {"clock"},
    {
        "csrattrs",
        "config",
        "secrets",
        "ds3231",
        "status",
        "entropy",
        "erase",
        "p256",
        "pkcs7",
        "ntp",
    },
    {"keys", "x509", "tsp", "atecc"},
    {"identity"},
    {"store", "custody"},
    {"http", "tls", "net", "query", "redirect", "retry", "pin", "problem", "witness", "ethernet"},
    {"call", "upload", "ssl"},
    {"outgoing"},
    {"client"},
    {"aio"},
    {"est", "timesync"},
    {"cacerts"},
    {"rollover"},
    {"anchors", "enrolment"},
    {"timekeeping", "proof", "issuance"},
    {"agent"},
    {"aio_agent"},
    {"provision", "loading", "__init__"},
)

Graph = dict[str, set[str]]


def imported(path: Path, package: str) -> Iterator[tuple[str, ...]]:
    """Yield every dotted name that a file imports, relative ones made absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = [*(above if node.level else ()), *(node.module or "").split(".")]
            for alias in node.names:
                yield (*filter(None, base), alias.name)


def imports_in(root: Path, package: str) -> Graph:
    """Return module → modules of the same package that it imports, wherever in the file."""
    files = {}
    for path in root.rglob("*.py"):
        if "_data" not in path.relative_to(root).parts:
            parts = path.relative_to(root).with_suffix("").parts
            files[".".join((package, *parts)).removesuffix(".__init__")] = path
    graph: Graph = {}
    for module, path in files.items():
        inside = module if path.stem == "__init__" else module.rpartition(".")[0]
        found = graph.setdefault(module, set())
        for name in imported(path, inside):
            # The last part is a module, or a name in one.
            whole, outer = ".".join(name), ".".join(name[:-1])
            target = whole if whole in files else outer
            if target in files and target != module:
                found.add(target)
    return graph


HOST_IMPORTS = imports_in(HOST, "handfast")
DEVICE_IMPORTS = imports_in(DEVICE, "mtls")


def part(module: str) -> str:
    """Return the part of the host's package that a module belongs to."""
    names = module.split(".")[1:]
    if names[:2] == ["gateway", "server"]:
        return "gateway.server"
    return names[0] if names else "handfast"


@pytest.mark.parametrize("module", sorted(HOST_IMPORTS))
def test_a_host_module_imports_only_what_its_part_may(module: str) -> None:
    own = part(module)
    assert own in _MAY_IMPORT, f"say in {Path(__file__).name} what {own} may import"
    strangers = {
        target for target in HOST_IMPORTS[module] if part(target) not in _MAY_IMPORT[own] | {own}
    }
    assert not strangers


@pytest.mark.parametrize("module", sorted(DEVICE_IMPORTS))
def test_a_device_module_imports_downwards_only(module: str) -> None:
    layer_of = {name: number for number, layer in enumerate(_LAYERS) for name in layer}

    def layer(name: str) -> int:
        short = name.partition(".")[2] or "__init__"
        assert short in layer_of, f"say in {Path(__file__).name} in which layer {short} is"
        return layer_of[short]

    assert not {target for target in DEVICE_IMPORTS[module] if layer(target) > layer(module)}


@pytest.mark.parametrize("graph", [HOST_IMPORTS, DEVICE_IMPORTS], ids=["host", "device"])
def test_no_import_goes_in_a_circle(graph: Graph) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_the_imports_are_really_read() -> None:
    """The tests above would pass on nothing."""
    assert "handfast.gateway.authorise" in HOST_IMPORTS["handfast.gateway.app"]
    assert "handfast.gateway.admin" in HOST_IMPORTS["handfast.gateway.app"]
    assert "handfast.admin_client" in HOST_IMPORTS["handfast.lab.gateway_process"]
    assert "mtls.enrolment" in DEVICE_IMPORTS["mtls.issuance"]  # a lazy `from .enrolment import`
    assert "mtls.client" in DEVICE_IMPORTS["mtls.agent"]
