"""Run an experiment: ``python -m experiments`` lists them, ``python -m experiments NAME --help`` explains one."""

import sys

from experiments.starting import start


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status."""
    return start("experiments", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
