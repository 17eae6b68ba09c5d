"""Tilth from Python: pretraining and fine-tuning of transformers on CPUs.

The package calls the C library libtilth (ctypes, no compiler) and shares memory with numpy. The library is found by
the environment variable TILTH_LIBRARY, else beside this package, else by the system."""

from ._library import Error, Stopped, lib
from .context import Context
from .models import Embedder, Generator, Predictor
from .safetensors import load_safetensors, save_safetensors
from .tokenizer import Tokenizer
from .training import Config, finetune, resume, train

__version__ = lib.tl_version().decode()
__all__ = ["Config", "Context", "Embedder", "Error", "Generator", "Predictor", "Stopped", "Tokenizer", "finetune",
           "load_safetensors", "resume", "save_safetensors", "train"]
