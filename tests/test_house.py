"""The structure: imports go strictly downwards, and some names stay in one room."""

import ast
from pathlib import Path

import pytest

import minigen

ROOT = Path(minigen.__file__).parent
FLOORS = {"backend": 0, "storage": 0, "core": 1, "conv": 2, "ops": 2, "nn": 3, "losses": 3, "optim": 3, "gradcheck": 3,
          "networks": 4, "entropy": 4, "frechet": 4, "divergences": 4,
          "classifier": 5, "models": 5, "training": 6, "cli": 7, "__init__": 8}
SIDEWAYS = {("ops", "conv")}
WINGS = {"datasets": {"backend", "storage"}, "figures": {"backend"}}         # what each may import; any floor may import them
ONLY_IN = {"cupy": "backend", "matplotlib": "figures"}
FILES = sorted(ROOT.rglob("*.py"))


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
            known = parts[1] in FLOORS or parts[1] in WINGS
            yield parts[1] if known else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards(path):
    here = room(path)
    assert here in FLOORS or here in WINGS, f"{here} has no floor: name it in FLOORS or WINGS"
    for there in rooms_imported(path):
        if there == here and path.parent != ROOT:
            continue            # within a package
        if here in WINGS:
            assert there in WINGS[here], f"{here} must not import {there}"
        elif there == "__init__":
            names = [n.split(".")[1] for n in imported(ast.parse(path.read_text())) if n.startswith("minigen.")]
            assert "__version__" in names, f"{here} imports a name of the package itself"
        elif there not in WINGS:
            assert FLOORS[there] < FLOORS[here] or (here, there) in SIDEWAYS, f"{here} must not import {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_some_modules_are_named_in_one_room_only(path):
    for name in imported(ast.parse(path.read_text())):
        for module, only in ONLY_IN.items():
            assert name.split(".")[0] != module or room(path) == only, f"{path} imports {module}"


def test_every_floor_is_inhabited():
    assert {room(path) for path in FILES} == set(FLOORS) | set(WINGS)


@pytest.mark.parametrize("name", minigen._ROOMS)
def test_rooms_are_attributes_of_the_package(name):
    assert getattr(minigen, name).__name__ == f"minigen.{name}" and name in dir(minigen)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        minigen.nonsense
