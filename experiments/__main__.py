"""Run an experiment: ``python -m experiments`` lists them, ``python -m experiments NAME --help`` explains one."""

import importlib
import sys

OURS = ("experiments", "jaxrnn")


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status; without what it needs, say how to install it."""
    try:
        return importlib.import_module("experiments.command_line").main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:  # a mistake here, which nothing that is installed would mend
            raise
        print(f"python -m experiments needs {package}: pip install -e '.[experiments]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
