"""Pretraining and fine-tuning: the one training loop."""

import ctypes as C
import math
import os
import pathlib
from types import SimpleNamespace

from ._library import call, constants, lib, libc, path_bytes, text_bytes, types
from .context import default_context


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(_value(v) for v in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


class Config:
    """A configuration (docs/config.md): a preset, then a YAML file, then TILTH_* variables, then settings, a
    mapping as {"train.steps": 100}."""

    def __init__(self, settings=None, preset=None, file=None):
        self._as_parameter_ = C.c_void_p()
        call("tl_config_load", preset.encode() if preset else None, path_bytes(file) if file else None, None, 0,
             C.byref(self._as_parameter_))
        for key, value in (settings or {}).items():
            call("tl_config_set", self, text_bytes(key), text_bytes(_value(value)), constants["TL_CONFIG_FLAG"],
                 b"Python")
        call("tl_config_finish", self)

    def __del__(self):
        lib.tl_config_free(self)

    def yaml(self, origins=False):
        text = C.c_char_p()
        call("tl_config_dump", self, origins, C.byref(text))
        try:
            return text.value.decode()
        finally:
            libc.free(text)


def _scores(s):
    return {x.name.decode(): x.value for x in s.score[:s.n]}


def _number(x):
    return None if math.isnan(x) else x


class Result(SimpleNamespace):
    """What a training gives: run and model (folders), steps, tokens, loss, val_loss, val_bpb, best_step, seconds,
    flops, params; after a fine-tuning also task, metric, best, and the scores valid and test by name."""

    def __init__(self, r):
        run = pathlib.Path(os.fsdecode(r.run_dir))
        super().__init__(run=run, model=run / "model", steps=r.steps, tokens=r.tokens, loss=r.loss,
                         val_loss=_number(r.val_loss), val_bpb=_number(r.val_bpb), best_step=r.best_step,
                         seconds=r.seconds, flops=r.flops, params=r.params)
        if r.task.type:
            self.task, self.metric, self.best = r.task.type.decode(), r.task.metric.decode(), _number(r.task.best)
            self.trained, self.n_train, self.n_valid = r.task.trained, r.task.n_train, r.task.n_valid
            self.valid, self.test = _scores(r.task.valid), _scores(r.task.test)


def _run(function, what, progress, cancel, context):
    context = context or default_context()

    def report(_, p):
        p = p.contents
        values = {name: getattr(p, name) for name, _ in p._fields_ if name != "note"}
        progress(SimpleNamespace(**values, note=p.note.decode() if p.note else None))

    callback = types["tl_progress_fn"](context.guard(report)) if progress else types["tl_progress_fn"]()
    options = types["tl_train_options"](progress=callback)
    result = types["tl_train_result"]()
    context.call(function, context, what, C.byref(options), C.byref(result), cancel=cancel)
    return Result(result)


def train(settings=None, preset=None, file=None, progress=None, cancel=None, context=None):
    """Pretrains by the configuration into a new run folder. progress(p) is called every run.log_every steps, with
    p.step, p.steps, p.loss, p.lr, p.tokens_per_s, ... and p.note for events. cancel() is asked between steps; true
    stops in order: Stopped is raised, and resume() goes on to the same bits."""
    return _run("tl_train", Config(settings, preset, file), progress, cancel, context)


def finetune(model, data, task="classify", settings=None, preset="finetune", file=None, progress=None, cancel=None,
             context=None):
    """Fine-tunes a model's folder on a file of labelled records (docs/task-data.md)."""
    settings = {"task.from": model, "task.train": data, "task.type": task, **(settings or {})}
    return train(settings, preset, file, progress, cancel, context)


def resume(run, progress=None, cancel=None, context=None):
    """Goes on with an interrupted run."""
    return _run("tl_resume", path_bytes(run), progress, cancel, context)
