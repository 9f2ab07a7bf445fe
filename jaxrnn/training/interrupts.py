"""Ctrl-C and SIGTERM as a wish to stop soon, not an exception in the middle of something."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second one raises KeyboardInterrupt.

    A signal that the process was told to ignore stays ignored. Outside the main thread, where Python
    allows no handlers, nothing changes and the event is never set.

    Example:
        >>> import signal
        >>> from jaxrnn.training.interrupts import stop_signals
        >>> with stop_signals() as stop:
        ...     stop.is_set()
        False
    """
    stop, previous = threading.Event(), {}

    def handle(number: int, frame: Any) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")

    if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
