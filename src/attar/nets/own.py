"""Networks of the user: a class, a function or a module, given as a Python object or as ``file.py:Name``."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from attar import code
from attar.errors import UsageError, nearest
from attar.nets.net import Net, method
from attar.seeds import Seeds


def load(reference: str) -> Any:
    """Imports what ``file.py:Name`` or ``package.module:Name`` names; this runs the file.

    Raises:
        UsageError: no such file, module or name, or an error while it is imported.
    """
    where, _, what = reference.rpartition(":")
    try:
        module = (
            _run_file(Path(where)) if where.endswith(".py") else code.remember_module(importlib.import_module(where))
        )
    except UsageError:
        raise
    except Exception as e:
        raise UsageError(f"'{where}' of '{reference}' cannot be imported ({_said(e)}); mend it") from e
    if not hasattr(module, what):
        known = [n for n in vars(module) if not n.startswith("_")]
        raise UsageError(f"'{where}' has no '{what}'; {nearest(what, known)}")
    return getattr(module, what)


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'; give the path from the current folder or from the root")
    # A name of its own for every path, so that files of the same name do not shadow each other.
    name = f"attar_user_{path.stem}_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{path}' cannot be imported as Python; give a .py file")
    module = importlib.util.module_from_spec(spec)
    held = code.unchanged(path)
    sys.modules[name] = module  # dataclasses and pickling inside the file look themselves up here
    spec.loader.exec_module(module)
    code.remember(path, held)
    return module


def adopt(source: Any, *, channels: int, size: tuple[int, int], classes: int, name: str | None = None) -> Net:
    """A Net around a user's class, function or module, tried once on two black images.

    Args:
        source: a class or function that takes some of the keywords channels, size, classes; or a module, whose fresh
            draws call ``reset_parameters`` of all its submodules.
        name: the spec string it came by.

    Raises:
        UsageError: it cannot be built, drawn anew or run, or does not give [B, K].
    """
    shape = {"channels": channels, "size": size, "classes": classes}
    if isinstance(source, nn.Module):
        name = name or _name_of(type(source))
        _check_drawable(source, name)
        make: Callable[[], nn.Module] = functools.partial(redrawn, source)
    elif callable(source):
        name = name or _name_of(source)
        make = functools.partial(_construct, source, name, shape)
    else:
        raise UsageError(f"a network is a string, a class, a function or a module, but got {type(source).__name__}")
    last = _try(make, name, **shape)
    return Net(name, **shape, source=source, make=make, last=last)


def _name_of(source: Any) -> str:
    return f"{source.__module__}:{getattr(source, '__qualname__', type(source).__name__)}"


def _construct(source: Callable[..., object], name: str, shape: dict[str, Any]) -> nn.Module:
    """Calls a class or function with those of the shape's keywords that it takes."""
    parameters = inspect.signature(source).parameters
    swallows = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    try:
        module = source(**{k: v for k, v in shape.items() if swallows or k in parameters})
    except UsageError:
        raise
    except Exception as e:
        raise UsageError(f"network {name} cannot be built ({_said(e)}); it may take channels, size, classes") from e
    if not isinstance(module, nn.Module):
        raise UsageError(f"network {name} gave {type(module).__name__}; it must give a torch.nn.Module")
    return module


def _check_drawable(module: nn.Module, name: str) -> None:
    for path, m in module.named_modules():
        if next(m.parameters(recurse=False), None) is not None and _reset_of(m) is None:
            where = f"its part '{path}' ({type(m).__name__})" if path else "it"
            raise UsageError(
                f"network {name} cannot be drawn anew, because {where} has parameters but no reset_parameters(); "
                "pass the class or a function that builds it instead"
            )


def _reset_of(module: nn.Module) -> Callable[[], None] | None:
    # torch's own attention names it with an underscore
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def redrawn(module: nn.Module) -> nn.Module:
    """A copy with fresh weights from torch's global generator; children first, as in ``nn.Module.apply``."""
    fresh = copy.deepcopy(module)
    with torch.no_grad():
        fresh.apply(lambda m: (_reset_of(m) or (lambda: None))())
    return fresh


def _try(make: Callable[[], nn.Module], name: str, *, channels: int, size: tuple[int, int], classes: int) -> str | None:
    """Runs the module once; returns ``last`` for :class:`attar.nets.net.Net`."""
    with Seeds().globally("trial"):
        module = make().eval()
    if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
        raise UsageError(f"network {name} has lazy layers, whose sizes are unknown before data; give their sizes")
    called: list[str] = []
    for path, m in module.named_modules():
        if isinstance(m, nn.Linear):
            m.register_forward_pre_hook(functools.partial(_note, called, path))
    try:
        with torch.no_grad():
            out = module(torch.zeros(2, channels, *size))
    except Exception as e:
        raise UsageError(
            f"network {name} fails on images of {channels}x{size[0]}x{size[1]} ({_said(e)}); mend it first"
        ) from e
    found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if found != (2, classes):
        raise UsageError(f"network {name} gives {found} for 2 images of {classes} classes; it must give (2, {classes})")
    if method(module, "features"):
        return None
    return called[-1] if called else ""


def _note(called: list[str], path: str, *_: object) -> None:
    called.append(path)


def _said(e: Exception) -> str:
    """Kind and first line of a foreign error, to stand inside a sentence."""
    return f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"
