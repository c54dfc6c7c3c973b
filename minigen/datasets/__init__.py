"""Data sets, as arrays: a module each, whose public names are names of this package."""

import importlib
import pkgutil

for _room in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_room.name}")
    # After the import, since a function has the name of its module, which the import has just set here.
    globals().update({name: getattr(_module, name) for name in _module.__all__})
