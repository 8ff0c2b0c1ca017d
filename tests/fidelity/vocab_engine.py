"""The engine's own tokenizer, asked through llama.cpp's C functions; only the vocabulary of a file is loaded."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Self

import numpy as np
from gguf import GGUFWriter

from localmodels.artifacts.convert.vocab import Vocabulary
from localmodels.artifacts.quantize.ggml import find_library


class _Params(ctypes.Structure):
    """``llama_model_params`` of llama.h in b11549; only the first flag is set here."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("overrides", ctypes.c_void_p),
        ("gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int),
        ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress", ctypes.c_void_p),
        ("progress_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("flags", ctypes.c_bool * 5),
    )


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(find_library()))
    library.llama_model_default_params.restype = _Params
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Params]
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    library.llama_model_free.argtypes = [ctypes.c_void_p]
    library.llama_tokenize.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool,
    ]  # fmt: skip
    library.llama_detokenize.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool,
    ]  # fmt: skip
    library.llama_log_set(_SILENT, None)
    library.llama_backend_init()
    return library


_LIBRARY = _library()


class Engine:
    """The vocabulary of one file, loaded; a context manager.

    Raises:
        ValueError: the engine does not load it.
    """

    def __init__(self, path: Path) -> None:
        params = _LIBRARY.llama_model_default_params()
        params.vocab_only = True
        self._model = _LIBRARY.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ValueError(f"{path.name}: the engine does not load it")
        self._vocab = _LIBRARY.llama_model_get_vocab(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _LIBRARY.llama_model_free(self._model)

    def ids(self, text: str, *, add: bool = True, parse: bool = True) -> list[int]:
        """Tokens of a text; with those that the tokenizer adds, and special ones in the text taken for such."""
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 16))()
        count = _LIBRARY.llama_tokenize(self._vocab, raw, len(raw), room, len(room), add, parse)
        if count < 0:
            raise ValueError(f"{text!r:.60}: {count}")
        return list(room[:count])

    def text(self, ids: list[int]) -> str:
        """What tokens come to."""
        numbers = (ctypes.c_int32 * max(1, len(ids)))(*ids)
        room = ctypes.create_string_buffer(64 * len(ids) + 64)
        count = _LIBRARY.llama_detokenize(self._vocab, numbers, len(ids), room, len(room), False, True)
        return room.raw[: max(count, 0)].decode(errors="replace")


def write_vocabulary(path: Path, vocabulary: Vocabulary, *, name: str = "vocabulary") -> Path:
    """A GGUF file with a vocabulary and no weights."""
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-6)
    for key, value in vocabulary.pairs():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, np.uint32):
            writer.add_uint32(key, int(value))
        elif isinstance(value, np.ndarray) and value.dtype == np.uint8:
            writer.add_array(key, value.tobytes())
        else:
            writer.add_array(key, value if isinstance(value, list) else value.tolist())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path
