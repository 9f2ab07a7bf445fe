"""What stands in the README: its sections, and their blocks of Python."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Return the blocks of Python in a text."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return found
