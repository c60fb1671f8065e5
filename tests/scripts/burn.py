"""Uses a processor."""

import time


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
