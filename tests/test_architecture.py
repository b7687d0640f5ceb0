"""The layers: a part imports only from parts to its right, and parts of one layer not from each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ltsp"
LAYERS = [
    {"cli"},
    {"commands"},
    {"build"},
    {"source", "publish", "boottest"},
    {"sandbox"},
    {"inspection"},
    {"transform", "boot", "initrd", "services", "mksquashfs"},
    {"squashfs", "cpio", "disk", "filesystem", "archive", "report"},
    {"tree", "settings", "storage"},
    {"host"},
    {"errors", "version"},
]
MODULES = sorted(SOURCE.rglob("*.py"))


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def layer(name: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_part_imports_only_from_layers_to_its_right(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own in {"__init__", "__main__"}:
        return
    for name in imports(path):
        if name.split(".")[0] == "ltsp" and part(name) != own:
            assert layer(part(name)) > layer(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_host_starts_programs_or_calls_the_kernel_by_ctypes(path):
    if path.relative_to(SOURCE).parts[0] != "host":
        assert not imports(path) & {"subprocess", "ctypes"}


@pytest.mark.parametrize("path", sorted((SOURCE / "commands").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_no_applet_imports_another(path):
    assert [name for name in imports(path) if name.startswith("ltsp.commands.")] == []


def test_init_files_are_empty():
    assert [path for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []
