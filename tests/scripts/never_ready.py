"""Its start() never ends."""

import time


def start(*args):
    time.sleep(3600)
