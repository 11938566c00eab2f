"""Threads of loaders: which there are, and that none outlives its loader."""

import threading


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("datapipe-loader")]
