"""Finds and loads libtilth; turns its errors into exceptions."""

import ctypes as C
import ctypes.util
import os
import pathlib

from ._abi import abi

NAME = "libtilth.so.0"


class Error(Exception):
    """What the library reports. str(e) says what, where, and how to mend it; e.status is the status' name, as
    "NOINPUT" or "CONFIG"."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


class Stopped(Error):
    """Training stopped by request; it is saved and can be resumed."""


def _load():
    """TILTH_LIBRARY, else beside this package, else where the system looks."""
    given = os.environ.get("TILTH_LIBRARY")
    beside = pathlib.Path(__file__).parent / NAME
    tries = [given] if given else [str(beside)] * beside.exists() + [NAME, ctypes.util.find_library("tilth")]
    failures = []
    for path in filter(None, tries):
        try:
            return C.CDLL(path)
        except OSError as e:
            failures.append(str(e))
    raise ImportError("libtilth was not found; install it (make install) or set TILTH_LIBRARY to its path: "
                      + "; ".join(failures))


lib = _load()
for _name, (_result, _arguments) in abi.functions.items():
    try:
        _function = getattr(lib, _name)
    except AttributeError:
        raise ImportError(f"{lib._name} has no {_name}: it is not the libtilth of this package's version") from None
    _function.restype, _function.argtypes = _result, _arguments

libc = C.CDLL(None)
libc.free.restype, libc.free.argtypes = None, [C.c_void_p]

types, constants = abi.types, abi.constants


def call(function, *arguments):
    """Calls a function that returns a tl_status and takes a tl_err last; raises Error."""
    err = types["tl_err"]()
    status = getattr(lib, function)(*arguments, C.byref(err))
    if status != 0:
        name = lib.tl_status_name(status).decode()
        kind = Stopped if name == "PREEMPTED" else Error
        raise kind(err.msg.decode("utf-8", "replace"), name)


def path_bytes(path):
    return os.fsencode(os.fspath(path))


def text_bytes(text):
    """UTF-8 of one text; NUL would end it in C."""
    data = text.encode() if isinstance(text, str) else bytes(text)
    if b"\0" in data:
        raise ValueError("a text holds a NUL character")
    return data


def text_array(texts):
    if isinstance(texts, (str, bytes)):
        raise TypeError("a list of texts is expected, not one text")
    data = [text_bytes(t) for t in texts]
    return (C.c_char_p * len(data))(*data), len(data)


def owned_array(address, count, ctype, owner):
    """A numpy view of memory of the library, without a copy; `owner` lives as long as the view."""
    import numpy

    if not count:
        return numpy.empty(0, dtype=ctype)
    memory = (ctype * count).from_address(address)
    memory.owner = owner
    return numpy.frombuffer(memory, dtype=ctype)
