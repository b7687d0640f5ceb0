"""The layers: a part imports only from parts to its right, and parts of one layer not from each other."""

from __future__ import annotations

import ast
from collections.abc import Collection
from graphlib import TopologicalSorter
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


def _imported_module(name: str, modules: Collection[str]) -> str | None:
    return next((each for each in (name, name.rpartition(".")[0]) if each in modules), None)


def read_module_imports() -> dict[str, set[str]]:
    """The modules that each module imports when it is imported itself."""
    paths = {".".join(("ltsp", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        graph[module] = {
            name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if (name := _imported_module(f"{node.module}.{alias.name}", paths)) is not None
        }
    return graph


def test_no_module_imports_itself_through_others():
    TopologicalSorter(read_module_imports()).prepare()


@pytest.mark.parametrize(("folder", "limit"), [("commands", 4), ("build", 8), ("publish", 12)])
def test_chains_of_imports_within_a_folder_are_short(folder, limit):
    graph = {
        module: {name for name in names if part(name) == folder}
        for module, names in read_module_imports().items()
        if part(module) == folder
    }
    levels: dict[str, int] = {}
    for module in TopologicalSorter(graph).static_order():
        levels[module] = 1 + max((levels[name] for name in graph[module]), default=0)
    assert max(levels.values()) <= limit


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = [
        (node.name, (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
    ]
    assert [(name, length) for name, length in lengths if length > 50] == []


def test_init_files_are_empty():
    assert [path for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []
