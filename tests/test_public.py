"""What a user meets first: names, docstrings, imports, and nothing compiled behind their back."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent
OPTIONAL = {
    "torch",
    "matplotlib",
    "rich",
    "tyro",
    "safetensors",
    "sklearn",
    "onnx",
    "keras",
    "flax",
    "haiku",
    "equinox",
}
# Where compiling is the job: training steps, the decoding loop, the check in float64, programs for export and backends,
# and the loop that XLA is asked to compile as one kernel.
MAY_JIT = {"training", "decoding.py", "checking.py", "one_kernel.py", "interop/programs.py", "interop/onnx/backend.py"}


def modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.")
    return [jaxrnn, *(importlib.import_module(module.name) for module in found)]


def public_names() -> dict[str, Any]:
    """Return every name in any ``__all__``, by where it is first listed."""
    listed = {}
    for module in modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if id(value) not in {id(other) for other in listed.values()}:
                listed[f"{module.__name__}.{name}"] = value
    return listed


PUBLIC = public_names()
FUNCTIONS = {where: value for where, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {where: value for where, value in PUBLIC.items() if inspect.isclass(value)}


def docstring(value: Any) -> str:
    return value.__doc__ or ""


def test_the_walk_finds_the_library():
    assert {"jaxrnn.unroll", "jaxrnn.initializers", "jaxrnn.initializers.orthogonal"} <= PUBLIC.keys()
    assert len(FUNCTIONS) > 15
    assert len(CLASSES) > 8


@pytest.mark.parametrize("where", [where for where, value in PUBLIC.items() if callable(value) or where in CLASSES])
def test_docstring(where):
    """One first line, ended, then nothing or an empty line."""
    doc = docstring(PUBLIC[where])
    if where == "jaxrnn.initializers.Initializer":  # an alias of Callable, documented by its module
        return
    assert doc, "no docstring"
    first, *rest = doc.splitlines()
    assert first.strip() == first
    assert first.endswith((".", ":"))
    assert not rest or not rest[0].strip()
    # A NamedTuple without one gets its signature as a docstring.
    assert not first.startswith(f"{PUBLIC[where].__name__}(")


@pytest.mark.parametrize("where", FUNCTIONS)
def test_a_function_has_an_example(where):
    doc = docstring(FUNCTIONS[where])
    assert "Example" in doc
    assert ">>> " in doc or "Example: see `" in doc


@pytest.mark.parametrize("where", FUNCTIONS)
def test_a_docstring_names_every_argument_it_lists(where):
    """A name before a colon under Args is an argument; one of the signature's that is listed nowhere is forgotten."""
    doc = docstring(FUNCTIONS[where])
    if "Args:" not in doc:
        return
    section = doc.split("Args:")[1]
    documented = set()
    for line in section.splitlines()[1:]:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent < 8:
            break
        if indent == 8 and ":" in line:
            documented |= {name.strip("` *") for name in line.split(":")[0].split(",")}
    arguments = set(inspect.signature(FUNCTIONS[where]).parameters)
    assert documented <= arguments, "documents what it does not take"
    assert all(name in doc for name in arguments), "takes what it does not document"


@pytest.mark.parametrize("module", [m for m in modules() if hasattr(m, "__all__")], ids=lambda module: module.__name__)
def test_all_is_sorted_and_complete(module):
    names = module.__all__
    assert names == sorted(names)
    assert len(names) == len(set(names))
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(module.__name__)
    }
    assert own <= set(names)


def test_the_top_level_has_what_its_packages_have():
    for package in ("jaxrnn.cells", "jaxrnn.layers"):
        module = importlib.import_module(package)
        assert set(module.__all__) <= set(jaxrnn.__all__)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_a_module_says_what_it_is(module):
    if module.__name__.endswith("__init__") or not Path(module.__file__ or "").read_text().strip():
        return
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith((".", ":"))


def test_importing_imports_no_optional_package():
    """Not even where it is installed: an import costs time, and a missing one would be an error."""
    walk = "import importlib, pkgutil, jaxrnn, sys\n"
    walk += "for m in pkgutil.walk_packages(jaxrnn.__path__, 'jaxrnn.'): importlib.import_module(m.name)\n"
    walk += f"print(sorted({OPTIONAL!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", walk], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert run.stdout.strip() == "[]"


def compiles(source: str) -> list[int]:
    """Return the lines of a source that name ``jit``."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in ("jit", "pmap"))
        or (isinstance(node, ast.Name) and node.id in ("jit", "pmap"))
        or (isinstance(node, ast.alias) and node.name in ("jit", "pmap"))
    ]


SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("source", [source for source in SOURCES if not {source, source.split("/")[0]} & MAY_JIT])
def test_jit_belongs_to_the_caller(source):
    assert compiles((ROOT / source).read_text()) == []


def test_the_scan_sees_jit():
    for source in ("jax.jit(f)", "@jax.jit\ndef f(): pass", "from jax import jit", "@partial(jax.jit)\ndef f(): pass"):
        assert compiles(source), source
    assert compiles((ROOT / "checking.py").read_text())
