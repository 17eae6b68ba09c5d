"""Finished models at work: predictions, embeddings, generation."""

import ctypes as C
import weakref
from types import SimpleNamespace

import numpy

from ._library import call, constants, lib, owned_array, path_bytes, text_array, text_bytes, types
from .context import Handle, default_context

_KINDS = {constants["TL_TASK_" + name]: name for name in ("CLASS", "MULTI", "VALUE", "TOKENS", "PAIR")}


class _Predictions:
    """Owns a tl_predictions."""

    def __init__(self):
        self.c = types["tl_predictions"]()
        weakref.finalize(self, lib.tl_predictions_free, C.byref(self.c))


class Predictor(Handle):
    """A model made by finetune() or by Hugging Face's libraries. max_len=0: what the model takes, at most 512."""

    def __init__(self, model, dtype="auto", max_len=0, context=None):
        context = context or default_context()
        handle = C.c_void_p()
        context.call("tl_predictor_open", context, path_bytes(model), dtype.encode(), max_len, C.byref(handle))
        super().__init__(handle, lib.tl_predictor_free, context)
        labels = lib.tl_predictor_labels(self).contents
        self.labels = [labels.name[i].decode() for i in range(labels.n)]
        self.task = lib.tl_predictor_task(self).decode()
        self.kind = _KINDS[lib.tl_predictor_kind(self)]

    def predict(self, texts, texts_b=None):
        """Of n texts, or n pairs. The answer has output, the probabilities (or the values) as an array that is the
        library's own memory, and, by the task:
          classify     label: n names; output [n, classes]
          multilabel   label: n lists of names, those of probability over 1/2; output [n, classes]
          regression   value: array [n]
          tokens       tag: n lists, one name for each word between white space; output [words, tags]
          translate    text: n translations"""
        text, n = text_array(texts)
        text_b, n_b = text_array(texts_b) if texts_b is not None else (None, n)
        if n_b != n:
            raise ValueError(f"{n} texts and {n_b} second texts")
        data, out = types["tl_task_data"](), _Predictions()
        call("tl_task_make", lib.tl_predictor_kind(self), text, text_b, n, C.byref(data))
        try:
            self._context.call("tl_predictor_run", self, C.byref(data), C.byref(out.c), None)
            return self._answer(data, out)
        finally:
            lib.tl_task_data_free(C.byref(data))

    def predict_pictures(self, path, skip_bad=False):
        """Of all pictures in a folder (whatever its folders are called), list, archive or file of arrays, as tilth
        predict --unlabelled reads them. The answer is that of predict, with name, the n pictures' names."""
        options = types["tl_image_options"](skip_bad=skip_bad, unlabelled=True)
        data, out = types["tl_image_data"](), _Predictions()
        call("tl_image_read", path_bytes(path), C.byref(options), C.byref(data))
        try:
            self._context.call("tl_predictor_run_images", self, C.byref(data), C.byref(out.c), None)
            answer = self._answer(data.records, out)
            answer.name = [data.records.text[i].decode() for i in range(data.records.n)]
            return answer
        finally:
            lib.tl_image_data_free(C.byref(data))

    def _answer(self, data, out):
        rows, width = out.c.n, out.c.n_outputs
        answer = SimpleNamespace()
        if out.c.output:
            address = C.cast(out.c.output, C.c_void_p).value
            answer.output = owned_array(address, rows * width, C.c_float, out).reshape(rows, width)
        if out.c.text:
            answer.text = [out.c.text[i].decode() for i in range(rows)]
        elif self.kind == "CLASS":
            answer.label = [self.labels[out.c.label[i]] for i in range(rows)]
        elif self.kind == "MULTI":
            answer.label = [[self.labels[j] for j in numpy.flatnonzero(p > 0.5)] for p in answer.output]
        elif self.kind == "VALUE":
            answer.value = answer.output[:, 0]
        elif self.kind == "TOKENS":
            first = data.first[: data.n + 1]
            answer.tag = [[self.labels[out.c.label[w]] for w in range(a, b)] for a, b in zip(first, first[1:])]
        return answer


class Embedder(Handle):
    """Vectors of texts. pool: "mean", "first", "last"; raw: keep the lengths (else each vector has length 1)."""

    def __init__(self, model, pool="mean", raw=False, dtype="auto", max_len=0, context=None):
        context = context or default_context()
        options = types["tl_embed_options"](pool=pool.encode(), dtype=dtype.encode(), max_len=max_len, raw=raw)
        handle = C.c_void_p()
        context.call("tl_embedder_open", context, path_bytes(model), C.byref(options), C.byref(handle))
        super().__init__(handle, lib.tl_embedder_free, context)
        self.dim = lib.tl_embedder_dim(self)

    def embed(self, texts):
        """An array [n, dim] of float32."""
        text, n = text_array(texts)
        out = numpy.empty((n, self.dim), dtype=numpy.float32)
        if n:
            self._context.call("tl_embedder_run", self, text, n, out.ctypes.data_as(C.POINTER(C.c_float)))
        return out


class Generator(Handle):
    """A decoder that continues texts."""

    def __init__(self, model, context=None):
        context = context or default_context()
        handle = C.c_void_p()
        context.call("tl_generator_open", context, path_bytes(model), C.byref(handle))
        super().__init__(handle, lib.tl_generator_free, context)

    def generate(self, prompt, emit=None, **sampling):
        """The text behind the prompt. emit(text) gets it piece by piece. sampling: max_tokens, temperature, top_k,
        top_p, seed; the same seed gives the same text."""
        options, pieces = lib.tl_sampling_defaults(), []
        for name, value in sampling.items():
            if name not in dict(options._fields_):
                raise TypeError(f"generate() got an unexpected keyword argument '{name}'")
            setattr(options, name, value)

        def receive(_, text, length):
            pieces.append(C.string_at(text, length).decode("utf-8", "replace"))
            if emit:
                emit(pieces[-1])

        callback = types["tl_emit_fn"](self._context.guard(receive))
        self._context.call("tl_generator_run", self, text_bytes(prompt), C.byref(options), callback, None, None)
        return "".join(pieces)
