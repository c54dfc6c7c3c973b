"""The structure: imports go strictly downwards, some names stay in one room, and nothing grows too large."""

import ast
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import minigen
from minigen import version

ROOT = Path(minigen.__file__).parent
PROJECT = ROOT.parent
FLOORS = {
    "backend": 0, "checks": 0, "ranks": 0, "storage": 0, "version": 0, "kernels": 1, "tensor": 1,
    "threads": 1, "correlation": 2, "op": 2, "core": 3, "batch_norm": 4, "conv": 4, "dense": 4, "module": 4,
    "ops": 4, "nn": 5, "losses": 5, "optim": 5, "gradcheck": 5, "networks": 6, "models": 7, "metrics": 7,
    "training": 8, "workers": 9, "experiment": 9, "tables": 9,
    "comparison": 10, "cli": 10, "report": 10, "__init__": 11, "__main__": 11
}
SIDEWAYS = {("threads", "kernels"), ("ops", "conv"), ("ops", "batch_norm"), ("ops", "dense")}
# The rooms that a wing imports; any floor may import a wing. A graph is made of Tensors.
WINGS = {"datasets": {"backend", "checks", "storage"}, "figures": {"backend", "checks", "tensor"}}
ONLY_IN = {"cupy": "backend", "matplotlib": "figures", "jinja2": "report"}
FILES = sorted(ROOT.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree):
    """The dotted names a module imports, also through importlib.import_module("...")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def rooms_imported(path):
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "minigen" and len(parts) > 1:
            yield parts[1] if parts[1] in FLOORS or parts[1] in WINGS else "__init__"


@every_file
def test_imports_go_downwards(path):
    here = room(path)
    assert here in FLOORS or here in WINGS, f"{here} has no floor: name it in FLOORS or WINGS"
    for there in rooms_imported(path):
        if there == here and path.parent != ROOT:
            continue            # within a package
        if here in WINGS:
            assert there in WINGS[here], f"{here} must not import {there}"
        elif there not in WINGS:
            below = FLOORS[there] < FLOORS[here] or (here, there) in SIDEWAYS
            assert below, f"{here} must not import {there}"


@every_file
def test_some_modules_are_named_in_one_room_only(path):
    for name in imported(ast.parse(path.read_text())):
        for module, only in ONLY_IN.items():
            assert name.split(".")[0] != module or room(path) == only, f"{path} imports {module}"


def test_every_floor_is_inhabited():
    assert {room(path) for path in FILES} == set(FLOORS) | set(WINGS)


@every_file
def test_nothing_grows_too_large(path):
    """A file has one idea; a function fits on a screen."""
    source = path.read_text()
    assert len(source.splitlines()) <= 400, path
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 45, f"{path}: {node.name}"


def test_the_map_in_the_docs_is_the_house():
    text = (PROJECT / "docs" / "house.md").read_text()
    table = text[text.index("## The floors"):]
    found = {}
    for floor, rooms in re.findall(r"^\| (\d+|wings) \| (.*?) \|", table, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", rooms), floor)
    floors = {name: str(floor) for name, floor in FLOORS.items() if name != "__init__"}
    assert found == floors | dict.fromkeys(WINGS, "wings")


@pytest.mark.parametrize("name", sorted({room(path) for path in FILES} - {"__init__", "__main__"}))
def test_rooms_are_attributes_of_the_package(name):
    assert getattr(minigen, name).__name__ == f"minigen.{name}" and name in dir(minigen)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "metrics").glob("[a-z]*.py"))])
def test_metrics_are_attributes_of_their_package(name):
    assert getattr(minigen.metrics, name).__name__ == f"minigen.metrics.{name}"
    assert name in dir(minigen.metrics)


def test_the_package_names_its_rooms_and_nothing_else_of_its_own():
    found = {name: getattr(minigen, name) for name in dir(minigen)}
    rooms = {name for name, value in found.items()
             if isinstance(value, types.ModuleType) and value.__name__ == f"minigen.{name}"}
    assert rooms | {"__init__", "__main__"} == {room(path) for path in FILES}


@pytest.mark.parametrize("folder", ["minigen", "examples", "benchmarks", "docs", "tests"])
def test_no_line_is_longer_than_110_columns(folder):
    files = sorted((PROJECT / folder).rglob("*.py"))
    too_long = [f"{path.name}:{number}" for path in files
                for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 110]
    assert files and not too_long, too_long


def test_the_version_is_one():
    assert minigen.__version__ == version.__version__
    assert f"\nversion: {minigen.__version__}\n" in (PROJECT / "CITATION.cff").read_text()
    changelog = (PROJECT / "docs" / "changelog.md").read_text()
    assert re.search(r"^## (.+)$", changelog, re.MULTILINE)[1] == minigen.__version__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        minigen.nonsense


def test_what_draws_nothing_does_not_import_matplotlib():
    """It takes twice as long as everything else, in each of many processes."""
    code = "import sys; from minigen import cli, comparison; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
