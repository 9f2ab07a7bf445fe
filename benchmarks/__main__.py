"""Ask a question: ``python -m benchmarks`` lists them, ``python -m benchmarks QUESTION --help`` explains one."""

import sys

from experiments.starting import start


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit status."""
    return start("benchmarks", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
