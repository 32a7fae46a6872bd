"""Open regular files only, and replace a file in one step.

Used by serialization and datasets; knows no file format.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

StrPath = str | os.PathLike[str]


def open_regular(path: StrPath) -> io.FileIO:
    """Open a regular file for reading bytes, unbuffered.

    A pipe or a device is refused: it has no size to check lengths against, and a read
    from it may never end.

    Raises
    ------
    OSError
        Naming `path`, if there is no such file, it may not be read or is not regular.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file, open_regular(file.name) as same:
    ...     same.read()
    b''
    """
    name = os.fspath(path)
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", name)
    return open(name, "rb", buffering=0)


@contextlib.contextmanager
def replace_file(path: StrPath) -> Iterator[BinaryIO]:
    """Write a new file beside `path`; it takes the place of `path` on success.

    Readers see the old content or the new one, also after a power cut; on an error
    inside the block the old file stays and the new one is removed. The mode of an
    existing file is kept, a new one obeys the umask, a symbolic link is followed.

    Raises
    ------
    OSError
        Naming `path`, if its folder is missing, read-only or full.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = pathlib.Path(folder, "note.txt")
    ...     with replace_file(target) as file:
    ...         _ = file.write(b"whole")
    ...     target.read_bytes(), [entry.name for entry in target.parent.iterdir()]
    (b'whole', ['note.txt'])
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    # A name of its own, so that a target name of maximal length stays possible.
    temporary = os.path.join(folder, f".fastlstm-{os.urandom(8).hex()}.tmp")
    try:
        kept_mode = _mode_of_existing(target)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "wb") as file:
                if kept_mode is not None:
                    os.fchmod(descriptor, kept_mode)
                yield file
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    _sync_folder(folder)


def _mode_of_existing(target: str) -> int | None:
    """Permission bits of the file to be replaced; None if there is none yet."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", target)
    return stat.S_IMODE(mode)


def _sync_folder(folder: str) -> None:
    """Make the new name durable, where the file system can sync a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
