"""Write cupy_names.json: the public names of the installed CuPy and the parameters that they take. No GPU is
needed.

    python make_cupy_names.py               # what this CuPy has
    python make_cupy_names.py --common      # the part of the file that this CuPy has too

The file in the repository is what two versions have in common: the oldest one that setup.cfg allows, and the
newest at the time. Parameters are written as ``a, axis=, *, out=``: an ``=`` marks one that may be left out.
"""

import inspect
import json
import re
import sys
from pathlib import Path

import cupy
import cupy.lib.stride_tricks
import numpy

TARGET = Path(__file__).with_name("cupy_names.json")


def parameters(function):
    """The parameters of a function or, where Python cannot tell, those in the first line of its
    documentation."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except ValueError:
        text = (function.__doc__ or "").split("\n")[0]
        if not (match := re.match(r"[\w.]+\((.*?)\)( ->.*)?$", text)):
            return None
        words = [re.sub(r"=.*", "=", word).split(" ")[-1] for word in match[1].split(", ")]
        return ", ".join(word for word in words if word not in ("self", ""))
    words, star = [], False
    for p in found:
        if p.kind is p.KEYWORD_ONLY and not star:
            words.append("*")
        star = star or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        words.append(prefix + p.name + "=" * (p.default is not p.empty))
    return ", ".join(words)


def functions(names, holder):
    """Name to parameters, of the functions among these names."""
    found = {name: parameters(getattr(holder, name)) for name in names if callable(getattr(holder, name))}
    return {name: words for name, words in found.items() if words is not None}


def synchronises(name):
    return "synchroni" in (getattr(cupy, name).__doc__ or "")


def public(holder):
    return [name for name in dir(holder) if not name.startswith("_")]


def collect():
    names = [name for name in public(cupy) if not inspect.ismodule(getattr(cupy, name))]
    numpys = [name for name in names if getattr(cupy, name) is getattr(numpy, name, cupy)]
    ufuncs = {
        name: bool(getattr(cupy, name)._scatter_op)
        for name in names if isinstance(getattr(cupy, name), cupy.ufunc)
    }
    others = [
        name for name in names
        if name not in ufuncs and name not in numpys and not isinstance(getattr(cupy, name), type)]
    found = functions(others, cupy)
    members = public(cupy.ndarray)
    methods = functions(members, cupy.ndarray)
    return {
        "versions": [cupy.__version__],
        "numpys": numpys,    # which are the very objects that NumPy has
        "functions": found,
        "synchronising": [name for name in found if synchronises(name)],    # or may, their documentation says
        "ufuncs": ufuncs,    # and whether their `at` is there
        "stride_tricks": functions(["as_strided"], cupy.lib.stride_tricks),
        "methods": methods,
        "attributes": [name for name in members if not callable(getattr(cupy.ndarray, name))],
        "operators": [name for name in dir(cupy.ndarray) if name.startswith("__")]
    }


def common(one, other):
    """What both have."""
    if isinstance(one, dict):
        return {key: common(one[key], other[key]) for key in one if key in other}
    if isinstance(one, list):
        return [item for item in one if item in other]
    if isinstance(one, bool):
        return one and other
    if "**" in one or "**" in other:        # "**kwargs" tells less than a list of names
        return other if "**" in one else one
    words = {word.rstrip("="): word for word in other.split(", ")}
    kept = [min(word, words[word.rstrip("=")]) for word in one.split(", ") if word.rstrip("=") in words]
    return ", ".join(kept).removesuffix(", *")


if __name__ == "__main__":
    result = collect()
    if "--common" in sys.argv[1:]:
        before = json.loads(TARGET.read_text())
        synchronising = {*before["synchronising"], *result["synchronising"]}
        result = {**common(before, result), "versions": before["versions"] + result["versions"]}
        result["synchronising"] = sorted(synchronising & result["functions"].keys())
    lines = [f'"{key}": {json.dumps(value)}' for key, value in result.items()]
    TARGET.write_text("{" + ",\n".join(lines) + "}\n")
