"""Intel's ISA-L by ctypes: where the library is looked for, and how a Python buffer is handed to it without a copy.

Knows neither Reed-Solomon nor any file format; its users hold a pure Python way for hosts without the library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

Buffer = bytes | bytearray | memoryview

MAX_LENGTH = 2**31 - 1
"""The most bytes one call may be given: lengths are a C int."""


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer; the same layout in 3.10 to 3.13."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


# Prototypes of our own: attributes of ctypes.pythonapi are shared with every other module of the process.
_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(("PyBuffer_Release", ctypes.pythonapi))


def candidates() -> Iterator[str]:
    """Name the places to look, in order: the library bundled with pyeclib, $WEED_ISAL, the system's libisal."""
    for entry in sys.path:
        yield from sorted(glob.glob(os.path.join(glob.escape(entry), "pyeclib.libs", "libisal-pyeclib*.so*")))
    if os.environ.get("WEED_ISAL"):
        yield os.environ["WEED_ISAL"]
    found = ctypes.util.find_library("isal")
    if found:
        yield found
    yield "libisal.so.2"


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL | None:
    """Load ISA-L once; None where no candidate loads or has the three functions used here."""
    for path in candidates():
        try:
            library = ctypes.CDLL(path)
            library.ec_init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
            library.ec_init_tables.restype = None
            library.ec_encode_data.argtypes = [ctypes.c_int] * 3 + [ctypes.c_void_p] * 3
            library.ec_encode_data.restype = None
            library.crc32_iscsi.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
            library.crc32_iscsi.restype = ctypes.c_uint32
        except (OSError, AttributeError):
            continue
        return library
    return None


@contextmanager
def address(buffer: Buffer, writable: bool = False) -> Iterator[int]:
    """Pin a contiguous buffer and give its address; BufferError if it is read-only but must be written."""
    view = _PyBuffer()
    _get_buffer(buffer, ctypes.byref(view), int(writable))
    try:
        yield view.buf or 0
    finally:
        _release_buffer(ctypes.byref(view))
