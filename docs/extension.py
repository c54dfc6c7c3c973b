"""What the documentation needs beyond Sphinx: chapters that run, code without its docstring, a page for each
module, and formulas as MathML, which browsers draw without a script."""

import ast
import importlib
import inspect
import pkgutil
import pydoc
import shutil
import textwrap
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.docutils import SphinxDirective

import minigen

# By this MyST-NB tells a notebook from a page. It runs the cells and shows what they return.
_NOTEBOOK = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""


def run_snippets(app, page, source):
    """Make a chapter of the tutorial, or its solutions, a notebook: its Python snippets are run."""
    if page.startswith("tutorial/"):
        source[0] = _NOTEBOOK + source[0].replace("\n```python\n", "\n```{code-cell}\n")


class Code(SphinxDirective):
    """``{code-of} minigen.losses.vae``: the code of a function or method as it is, but without its docstring
    and the lines that check its arguments."""

    required_arguments = 1

    def run(self):
        function = pydoc.locate(self.arguments[0])
        self.env.note_dependency(inspect.getsourcefile(function))
        lines = textwrap.dedent(inspect.getsource(function)).splitlines()
        definition, = ast.parse("\n".join(lines)).body
        for statement in reversed(definition.body):
            if _aside(statement):
                del lines[statement.lineno - 1:statement.end_lineno]
        text = "\n".join(lines)
        return [nodes.literal_block(text, text, language="python")]


def _aside(statement):
    """Whether a statement is a docstring, or checks arguments, also if it assigns what was checked."""
    if isinstance(statement, ast.If) and not statement.orelse:
        return all(isinstance(inner, ast.Raise) or _aside(inner) for inner in statement.body)
    value = getattr(statement, "value", None)
    called = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    return called.startswith(("_check", "checks.")) or (
        isinstance(statement, ast.Expr) and isinstance(value, ast.Constant))


def write_api(app):
    """Write api/MODULE.rst for each module. What a package names in ``__all__`` is on its own page."""
    folder = Path(app.srcdir, "api")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = (module.name for module in pkgutil.walk_packages(minigen.__path__, "minigen."))
    for name in ["minigen", *(name for name in found if not name.endswith("__main__"))]:
        above = importlib.import_module(name.rpartition(".")[0] or name)
        there = set(getattr(above, "__all__", ())) & set(vars(importlib.import_module(name)))
        options = ["   :members:"]
        if above.__name__ != name and there:
            options.append(f"   :exclude-members: {', '.join(sorted(there))}")
        if not inspect.ismodule(getattr(above, name.rpartition(".")[2], above)):
            options.append("   :no-index:")     # a function has the module's name
        text = "\n".join([name, "=" * len(name), "", f".. automodule:: {name}", *options, "", *_ops(name)])
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")


def _ops(name):
    """The descriptions of a module's public ops: Sphinx looks for functions and classes only."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", [public for public in vars(module) if public[0] != "_"]):
        op = getattr(module, public)
        if isinstance(op, minigen.Op) and (op.__module__ == name or hasattr(module, "__all__")):
            yield f".. py:function:: {name}.{public}{inspect.signature(op)}\n\n   ``{op.__doc__}``\n"


def leave_out(app, what, name, member, skip, options):
    """Leave out the methods that matplotlib adds to its subclasses."""
    return skip or (getattr(member, "__module__", None) or "").startswith("matplotlib.")


def _formula(display):
    def visit(writer, node):
        writer.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode
    return visit, None


def setup(app):
    app.connect("builder-inited", write_api)
    app.connect("source-read", run_snippets)
    app.connect("autodoc-skip-member", leave_out)
    app.add_directive("code-of", Code)
    app.add_html_math_renderer("mathml", inline_renderers=_formula("inline"),
                               block_renderers=_formula("block"))
    return {"parallel_read_safe": True}
