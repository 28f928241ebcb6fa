"""The source of attar as syntax trees, for the tests of its layout."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attar

HOME = Path(attar.__file__).parent
PLAN = HOME.parents[1] / "docs" / "architecture.md"


def files() -> list[Path]:
    """Every Python file of the package."""
    return sorted(HOME.rglob("*.py"))


def name_of(path: Path) -> str:
    """``distill/dm.py``."""
    return path.relative_to(HOME).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room(module: str) -> str:
    """``attar.distill.dm`` -> ``distill``; the package itself is ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


def room_of(path: Path) -> str:
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def floors() -> dict[str, int]:
    """Room -> floor, from the table in the plan of the house."""
    rows = re.findall(r"^\| (\d) \| (.+?) \|", PLAN.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        name.rstrip("/").removesuffix(".py"): int(floor)
        for floor, names in rows
        for name in re.findall(r"`(.+?)`", names)
    }


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of attar in a file, at the top or nested, ``from attar import x`` as attar.x."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "attar")
        elif isinstance(node, ast.ImportFrom):
            where = "." * node.level + (node.module or "")
            if where == "attar":
                yield from ((node.lineno, f"attar.{a.name}") for a in node.names)
            elif where.startswith(("attar.", ".")):
                yield node.lineno, where


def foreign(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every other import."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{a.name}") for a in node.names)
