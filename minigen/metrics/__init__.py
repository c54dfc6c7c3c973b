"""Measures of generated images. Each module here is also an attribute of this package."""

import importlib
import pkgutil

for _room in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_room.name}")
