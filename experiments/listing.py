"""What a command line can run: the modules of a folder that have a ``Config`` and a ``run``."""

import ast
import pathlib
from collections.abc import Mapping


def descriptions(folder: pathlib.Path) -> dict[str, str]:
    """Return those modules and the first line of each one's docstring, without importing any of them."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        if {"Config", "run"} <= defined:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def listing(title: str, listed: Mapping[str, str], commands: Mapping[str, str]) -> str:
    """Return the modules under a title, and below them some commands and what each does."""

    def columns(lines: Mapping[str, str], gap: int) -> list[str]:
        width = max(map(len, lines)) + gap
        return [f"  {left:<{width}}{right}" for left, right in lines.items()]

    return "\n".join([f"{title}:", "", *columns(listed, 2), "", *columns(commands, 4)])
