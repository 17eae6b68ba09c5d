"""Tokenizers: tokenizer.json files, and training."""

import ctypes as C
import weakref

import numpy

from ._library import call, constants, lib, libc, owned_array, path_bytes, text_bytes, types
from .context import Handle, default_context


class _Memory:
    """Memory from malloc, freed with this object."""

    def __init__(self, address):
        weakref.finalize(self, libc.free, address)


class Tokenizer(Handle):
    """Tokenizer(path): a tokenizer.json, a folder that holds one (as a model's), or "bytes"."""

    def __init__(self, path):
        handle = C.c_void_p()
        context = default_context()
        context.call("tl_tokenizer_open", context, path_bytes(path), C.byref(handle))
        super().__init__(handle, lib.tl_tokenizer_free)

    @classmethod
    def train(cls, texts, type="bpe", vocab_size=8192, lowercase=False, max_bytes=0, context=None):
        """Trains on an iterable of texts, which is read once."""
        context = context or default_context()
        source, kept = iter(texts), []

        def next_text(_, text, length, err):
            data = next(source, None)
            if data is None:
                text[0] = None
                return 0
            kept[:] = [data.encode() if isinstance(data, str) else bytes(data)]
            text[0], length[0] = kept[0], len(kept[0])
            return 0

        def failing_next(*arguments):  # an exception in `texts` ends the training
            status = context.guard(next_text)(*arguments)
            return 1 if status is None else status

        options = types["tl_tokenizer_train_options"](type=type.encode(), vocab_size=vocab_size,
                                                      lowercase=lowercase, max_bytes=max_bytes)
        handle = C.c_void_p()
        context.call("tl_tokenizer_train", context, C.byref(options), types["tl_text_next_fn"](failing_next), None,
                     C.byref(handle))
        self = cls.__new__(cls)
        Handle.__init__(self, handle, lib.tl_tokenizer_free)
        return self

    def save(self, folder):
        call("tl_tokenizer_save", self, path_bytes(folder))

    def encode(self, text):
        """The ids of a text (str or bytes) as an array of uint32, which is the library's own memory."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        ids, n, cap = C.POINTER(C.c_uint32)(), C.c_size_t(), C.c_size_t()
        call("tl_tokenizer_encode", self, data, len(data), C.byref(ids), C.byref(n), C.byref(cap))
        address = C.cast(ids, C.c_void_p).value
        return owned_array(address, n.value, C.c_uint32, _Memory(address))

    def decode_bytes(self, ids, skip_special=True):
        ids = numpy.ascontiguousarray(ids, dtype=numpy.uint32)
        text, n = C.c_char_p(), C.c_size_t()
        call("tl_tokenizer_decode", self, ids.ctypes.data_as(C.POINTER(C.c_uint32)), ids.size, skip_special,
             C.byref(text), C.byref(n))
        try:
            return C.string_at(text, n.value)
        finally:
            libc.free(text)

    def decode(self, ids, skip_special=True):
        return self.decode_bytes(ids, skip_special).decode("utf-8", "replace")

    def __len__(self):
        return lib.tl_tokenizer_vocab_size(self)

    @property
    def type(self):
        return lib.tl_tokenizer_type(self).decode()

    def special(self, role):
        """The id of "pad", "bos", "eos", "unk" or "mask"; None where there is none."""
        id = lib.tl_tokenizer_special(self, constants["TL_TOK_" + role.upper()])
        return id if id >= 0 else None

    def token(self, id):
        token = lib.tl_tokenizer_token(self, id)
        return None if token is None else token.decode("utf-8", "replace")

    def id(self, token):
        id = lib.tl_tokenizer_id(self, text_bytes(token))
        return id if id >= 0 else None
