"""A disk that is full: a write takes what there is room for, and the next one fails."""

import errno
import os
from types import SimpleNamespace


class FullDisk:
    """Stands in for the `os` of a module that writes with `os.fdopen`.

    Args:
        room: bytes that it takes until it is full; None for as many as there are.
        error: what a write raises then.
    """

    def __init__(self, room=None, error=None):
        self.room = room
        self.error = error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.os = SimpleNamespace(**vars(os))
        self.os.fdopen = lambda *args, **kwargs: _File(self, os.fdopen(*args, **kwargs))


class _File:
    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        if self._disk.room is None:
            return self._file.write(data)
        if not self._disk.room:
            raise self._disk.error
        taken = self._file.write(data[: self._disk.room])
        self._disk.room -= taken
        return taken
