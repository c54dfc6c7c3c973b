"""Build the documentation: ``python docs/build.py`` writes the tutorial's notebooks, then all pages in
docs/_build/html.

It needs ``pip install -e '.[docs]'``. Warnings are errors.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
_SNIPPET = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_RELATIVE_LINK = re.compile(r"\]\((?=[\w.]+[/.])")


def chapters():
    """The tutorial's pages that are notebooks too, in order."""
    return sorted((DOCS / "tutorial").glob("[0-9]*.md"))


def notebook(page):
    """The page as a notebook without outputs, in the form of JSON: its Python snippets are the cells of
    code."""
    # Text and snippets take turns.
    parts = _SNIPPET.split(page.read_text(encoding="utf-8"))
    cells = []
    for number, part in enumerate(parts):
        source = (part if number % 2 else _RELATIVE_LINK.sub("](../tutorial/", part)).strip("\n")
        if source:
            code = {"cell_type": "code", "execution_count": None, "outputs": []}
            cells.append({**(code if number % 2 else {"cell_type": "markdown"}), "id": f"cell-{number}",
                          "metadata": {}, "source": source.splitlines(keepends=True)})
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1,
                      ensure_ascii=False, sort_keys=True) + "\n"


def notebook_path(page):
    return DOCS / "notebooks" / f"{page.stem}.ipynb"


def main():
    for page in chapters():
        notebook_path(page).write_text(notebook(page), encoding="utf-8")
    built = DOCS / "_build"
    status = subprocess.call([sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet",
                              "--fresh-env", "-d", str(built / "doctrees"), str(DOCS), str(built / "html")],
                             env={"OPENBLAS_NUM_THREADS": "1", **os.environ})   # small networks need no more
    if status == 0:
        print(f"The first page is {built / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
