"""The report: one self-contained HTML page with the results beside the paper's, and its latent explorer."""

from minigen.report.explorer import export
from minigen.report.outcome import Outcome, read
from minigen.report.page import render

__all__ = ["Outcome", "export", "read", "render"]
