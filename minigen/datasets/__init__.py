"""Data sets, as arrays. The public names of each module here are also names of this package."""

import importlib
import pkgutil

for _room in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_room.name}")
    # After the import, which sets the module's name here: a function of the same name must replace it.
    globals().update({name: getattr(_module, name) for name in _module.__all__})
