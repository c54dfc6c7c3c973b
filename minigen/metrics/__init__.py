"""Measures of generated images: a module each, all of them attributes of this package."""

import importlib
import pkgutil

for _room in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_room.name}")
