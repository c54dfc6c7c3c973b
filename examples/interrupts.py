"""Ctrl-C during the imports of an example ends it with one line, as ``cli.run`` does later.

Each example imports this module first, if it is the program. It must not import anything that takes time.
"""

import os
import signal


def end(number, frame):
    """End the program at once: an exception might get lost in a module that is being imported."""
    try:
        os.write(2, b"\ninterrupted\n")
    finally:
        os._exit(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:       # not if it is ignored
    signal.signal(signal.SIGINT, end)
