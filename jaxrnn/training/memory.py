"""Memory that stays with the process: what the arrays of one call leave, those of the next one take.

Memory of more than 32 MiB, such as the temporary arrays of a long sequence, glibc maps from the system
for every call, which zeroes every page of it, and gives back after the call. For a step of training that
can be a third of its time. glibc can be told to keep what is freed; that holds for the whole process, and
so is for a program to ask, not for a library to do.
"""

import ctypes

# What malloc.h calls M_TRIM_THRESHOLD, M_MMAP_MAX and M_ARENA_MAX, and what keeps memory.
NEVER_TRIM = -1, 2**31 - 1
NO_MAPPING = -4, 0
ONE_ARENA = -8, 1  # of those that threads have of their own, none holds more than 64 MiB


def keep_memory() -> bool:
    """Have this process keep the memory that its arrays free, and return whether it will.

    Steps of which the temporary arrays pass 32 MiB on a device of the CPU then take less time, torch's as well.
    The process stays as large as it once was, and compiling takes somewhat longer. Call it first, before JAX has
    made an array: memory that a thread has by then stays its own. Where the C library is not glibc, as on macOS
    and Windows, nothing changes. In place of a call, ``GLIBC_TUNABLES=glibc.malloc.hugetlb=1`` in the environment
    makes the pages larger, and so keeps most of the cost away, where Linux has transparent huge pages.

    Returns:
        True if glibc keeps memory from now on; False where nothing changes.

    Source: the GNU C Library's manual, "Malloc Tunable Parameters".

    Example, in a process of its own, since it cannot be taken back:
        >>> import subprocess, sys
        >>> program = "from jaxrnn.training import keep_memory; print(type(keep_memory()))"
        >>> print(subprocess.check_output([sys.executable, "-c", program], text=True))
        <class 'bool'>
        <BLANKLINE>
    """
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # as on Windows
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(*option) for option in (NEVER_TRIM, NO_MAPPING, ONE_ARENA))
