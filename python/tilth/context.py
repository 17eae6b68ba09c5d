"""Threads, kernels, and the way back from the library into Python."""

import ctypes as C
import logging
import threading
import weakref

from ._library import call, lib, types

_log = logging.getLogger("tilth")
_levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]


class Context:
    """The threads and kernels that work is done with. threads=0: all CPUs this process may use; cpu: "ref",
    "avx2", ... to lower the kernels. Messages go to the logger "tilth". One thread at a time computes with a
    context; others wait. Ctrl-C and an exception in a callback stop the work between two steps."""

    def __init__(self, threads=0, cpu=None):
        me = weakref.ref(self)
        self._lock = threading.RLock()
        self._cancel = None
        self._raised = None

        def log(_, level, line):
            _log.log(_levels[level], "%s", C.string_at(line).decode("utf-8", "replace"))

        def cancel(_):
            context = me()
            return context is not None and context._stop()

        callbacks = types["tl_log_fn"](log), types["tl_cancel_fn"](cancel)
        options = types["tl_ctx_options"](n_threads=threads, cpu=cpu.encode() if cpu else None, log=callbacks[0],
                                          cancel=callbacks[1])
        handle = C.c_void_p()
        call("tl_ctx_new", C.byref(options), C.byref(handle))
        self._as_parameter_ = handle
        weakref.finalize(self, lambda handle, _: lib.tl_ctx_free(handle), handle, callbacks)

    @property
    def threads(self):
        return lib.tl_ctx_threads(self)

    @property
    def cpu(self):
        return lib.tl_ctx_cpu(self).decode()

    def _stop(self):
        try:
            return bool(self._raised or (self._cancel and self._cancel()))
        except BaseException as e:  # also KeyboardInterrupt: it goes on in call()
            self._raised = e
            return True

    def guard(self, function):
        """A callback that may raise: the work stops, and the exception goes on when the library has returned."""

        def guarded(*arguments):
            try:
                if not self._raised:
                    return function(*arguments)
            except BaseException as e:
                self._raised = e

        return guarded

    def call(self, function, *arguments, cancel=None):
        """One call of the library that computes with this context."""
        with self._lock:
            self._cancel, self._raised = cancel, None
            try:
                call(function, *arguments)
            finally:
                raised, self._cancel, self._raised = self._raised, None, None
                if raised:
                    raise raised


_default = None


def default_context():
    """The context of calls that are given none; made at the first one."""
    global _default
    if _default is None:
        _default = Context()
    return _default


class Handle:
    """An object of the library, freed with this one; `context` is kept alive."""

    def __init__(self, handle, free, context=None):
        self._as_parameter_ = handle
        self._context = context
        weakref.finalize(self, free, handle)
