"""Start a command line, or say what to install for it."""

import importlib
import sys

OURS = ("benchmarks", "experiments", "jaxrnn")


def start(program: str, arguments: list[str]) -> int:
    """Run ``python -m program arguments``, which is ``program.command_line``, and return the exit status.

    Args:
        program: "experiments" or "benchmarks"; the extra of its name brings all that it needs.
        arguments: of the command line.
    """
    try:
        return importlib.import_module(f"{program}.command_line").main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:  # a mistake here, which nothing that is installed would mend
            raise
        print(f"python -m {program} needs {package}: pip install -e '.[{program}]'", file=sys.stderr)
        return 2
