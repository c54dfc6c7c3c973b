"""Sphinx's settings; what it lacks is in ``extension``."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import minigen  # noqa: E402

project = "minigen"
release = version = minigen.__version__
html_title = "minigen"
language = "en"

extensions = ["sphinx.ext.autodoc", "myst_nb", "extension"]
exclude_patterns = ["_build", "notebooks"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["minigen.css"]
html_show_copyright = html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"      # progress bars

html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
