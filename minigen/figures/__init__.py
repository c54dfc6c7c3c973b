"""All pictures: grids of images, and plots.

Each function writes a file, whose suffix tells the format (PNG, SVG, PDF), and returns the figure, which a
notebook shows. With None in place of the file's name, none is written. ``graph`` returns a drawing, which
writes itself. Only this package draws; it uses matplotlib without its global state, and without the settings
that a user may have made there.
"""

from minigen.figures.curves import (constraint_sweep, entropy_curves, entropy_histogram, frontiers,
                                    image_entropies, moving_apart, scaling, training_curves)
from minigen.figures.film import gif
from minigen.figures.graph import Graph, graph
from minigen.figures.images import grids, image_rows, moving_grids, sample_grids, save_grid, tile
from minigen.figures.manifold import manifold
from minigen.figures.points import moving_points, point_clouds
from minigen.figures.style import COLOURS

__all__ = ["COLOURS", "Graph", "constraint_sweep", "entropy_curves", "entropy_histogram", "frontiers", "gif",
           "graph", "grids", "image_entropies", "image_rows", "manifold", "moving_apart", "moving_grids",
           "moving_points", "point_clouds", "sample_grids", "save_grid", "scaling", "tile", "training_curves"]
