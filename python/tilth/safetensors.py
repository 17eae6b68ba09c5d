"""safetensors files as numpy arrays."""

import ctypes as C
from collections.abc import Mapping

import numpy

from ._library import call, constants, lib, owned_array, path_bytes, types
from .context import Handle

_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}
_NAMES = [lib.tl_st_dtype_name(i).decode() for i in range(constants["TL_ST_N_DTYPES"])]


class Tensors(Handle, Mapping):
    """The tensors of a file, of shards, or of a model's folder, by name. They are read-only views of the mapped file,
    without a copy. bfloat16, which numpy lacks, is copied to float32; 8 bits and less come as bytes."""

    def __init__(self, path):
        handle = C.c_void_p()
        call("tl_st_open", path_bytes(path), C.byref(handle))
        super().__init__(handle, lib.tl_st_close)
        each = (lib.tl_st_at(self, i) for i in range(lib.tl_st_count(self)))
        self._tensor = {t.contents.name.decode(): t for t in each}

    def dtype(self, name):
        """The type in the file: "F32", "BF16", ..."""
        return _NAMES[self._tensor[name].contents.dtype]

    def __getitem__(self, name):
        t, kind = self._tensor[name].contents, self.dtype(name)
        shape = tuple(t.shape[: t.ndim])
        if kind == "BF16":
            out = numpy.empty(shape, dtype=numpy.float32)
            call("tl_st_read_f32", C.byref(t), out.ctypes.data_as(C.POINTER(C.c_float)))
            return out
        array = owned_array(t.data, t.size, C.c_uint8, self)
        if kind in _NUMPY:
            array = array.view(_NUMPY[kind]).reshape(shape)
        array.flags.writeable = False
        return array

    def __iter__(self):
        return iter(self._tensor)

    def __len__(self):
        return len(self._tensor)


def load_safetensors(path):
    return Tensors(path)


def save_safetensors(path, tensors, metadata=None):
    """Writes arrays by name; the same tensors give the same bytes, in whatever order."""
    kinds = {numpy.dtype(v): k for k, v in _NUMPY.items()}
    array = (types["tl_st_tensor"] * len(tensors))()
    kept = []
    for t, (name, value) in zip(array, tensors.items()):
        value = numpy.asarray(value)
        value = numpy.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
        if value.dtype not in kinds:
            raise TypeError(f"{name}: safetensors has no type for {value.dtype}")
        if value.ndim > constants["TL_ST_MAX_NDIM"]:
            raise ValueError(f"{name}: {value.ndim} axes; at most {constants['TL_ST_MAX_NDIM']} are written")
        kept.append(value)
        t.name, t.dtype, t.ndim = name.encode(), _NAMES.index(kinds[value.dtype]), value.ndim
        t.shape[: value.ndim] = value.shape
        t.data, t.size = value.ctypes.data, value.nbytes
    pairs = (types["tl_st_pair"] * len(metadata or {}))()
    for p, (key, text) in zip(pairs, (metadata or {}).items()):
        p.key, p.value = key.encode(), text.encode()
    call("tl_st_write", path_bytes(path), array, len(array), pairs, len(pairs), None, None)
