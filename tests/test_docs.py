"""The documentation: snippets run, notebooks are the chapters they come from, and worked changes apply."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import matplotlib
import nbclient
import nbformat
import numpy
import pytest
from conftest import idx_bytes
from PIL import Image

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"

matplotlib.use("agg")       # snippets open no windows
spec = importlib.util.spec_from_file_location("build", DOCS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def fenced(page, language):
    """The blocks of this language in a page; empty lines before each give its lines the page's numbers."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, block.start(1)) + block[1]
            for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(PROJECT)))


CHAPTERS = build.chapters()
PAGES = [PROJECT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*/*.md"))]
CHANGES = [page for page in PAGES if fenced(page, "diff")]


def test_there_are_chapters_and_worked_changes():
    assert [page.stem[0] for page in CHAPTERS] == list("12345")
    assert [page.stem for page in CHANGES] == ["data_set", "metric", "model", "op"]


@pytest.fixture
def readers_folder(tmp_path, monkeypatch, rng):
    """A folder with what the pages suppose that a reader has: some pictures, and EMNIST's letters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    for folder in ("pictures", "emnist"):
        Path(folder).mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (64, 70, 3), dtype="uint8")).save(f"pictures/{i}.png")
    for part, n in (("train", 520), ("test", 52)):
        for what, array in (("images-idx3", rng.integers(0, 256, (n, 28, 28))),
                            ("labels-idx1", numpy.arange(n) % 26 + 1)):
            Path(f"emnist/emnist-letters-{part}-{what}-ubyte").write_bytes(idx_bytes(array))


@each([page for page in PAGES if fenced(page, "python") and page not in CHAPTERS])
def test_snippets_run(page, readers_folder, monkeypatch):
    """In the page's order, with the names of those before."""
    module = types.ModuleType("snippets")
    monkeypatch.setitem(sys.modules, "snippets", module)        # where its classes can be found
    for snippet in fenced(page, "python"):
        exec(compile(snippet, str(page), "exec"), vars(module))


@each(CHAPTERS)
def test_notebooks_are_the_chapters(page):
    found = build.notebook_path(page).read_text(encoding="utf-8")
    assert found == build.notebook(page), "python docs/build.py writes the notebooks anew"
    nbformat.validate(nbformat.reads(found, as_version=4))


def test_there_is_no_other_notebook():
    assert sorted((DOCS / "notebooks").iterdir()) == [build.notebook_path(page) for page in CHAPTERS]


@each(CHAPTERS)
def test_notebooks_run(page, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.read(build.notebook_path(page), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", [])
                if "image/png" in output.get("data", {})]
    assert pictures or page is CHAPTERS[0]


@each(CHANGES)
def test_worked_changes_apply_and_pass_their_tests(page, tmp_path):
    """In a copy of the project, as a reader would."""
    for name in ("minigen", "tests", "setup.cfg"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    changes = "\n".join(diff.strip("\n") for diff in fenced(page, "diff")) + "\n"
    subprocess.run(["git", "apply", "-"], input=changes, text=True, cwd=tmp_path, check=True)
    commands = "".join(fenced(page, "sh")).split("\n")
    tests = [command.removeprefix("pytest ") for command in commands if command.startswith("pytest ")]
    assert len(tests) == 1
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run(f"{sys.executable} -m pytest --numprocesses 0 {tests[0]}", shell=True, cwd=tmp_path,
                   env=environment, check=True)
