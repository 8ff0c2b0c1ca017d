"""What a folder becomes, before a weight is read: each tensor's type and place in the file, and the file's size.

The rule: whatever can be refused is refused here, so that the work itself fails only where weights are broken.
Tensors are in llama.cpp's order, and of the types that its converter and its quantiser would give them together:
:mod:`..quantize.mixing` decides, told of a model that is stored as the folder has it; for one exception see
:mod:`.narrow`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from localmodels.artifacts.convert.config import FILE, Config, shortened
from localmodels.artifacts.convert.drawing import Made, Model
from localmodels.artifacts.convert.families import FAMILIES
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.narrow import is_spared
from localmodels.artifacts.convert.safetensors import Stored
from localmodels.artifacts.convert.vocab import Vocabulary, read_vocabulary
from localmodels.artifacts.gguf import DEFAULT_ALIGNMENT, LONGEST_NAME
from localmodels.artifacts.gguf_header import Array, Header, TensorInfo, Value, WeightType, counted
from localmodels.artifacts.gguf_rules import complaint
from localmodels.artifacts.gguf_write import VERSION, Plain, beginning, pair, tensor_info
from localmodels.artifacts.quantize.file_types import TARGETS, FileType, is_quantized, weight_type
from localmodels.artifacts.quantize.mixing import mixed
from localmodels.artifacts.quantize.plan import QUANTIZATION_VERSION, expect_no_matrix
from localmodels.artifacts.quantize.untouched import is_kept
from localmodels.core.errors import ModelDamaged, Unsupported

QUANTIZATION = "quantization_config"

AS_IT_IS = ""
"""A target: whatever most weights of the folder are stored as."""

# Those that llama.cpp looks for (llama-vocab.cpp), and one that tells Phi-3's tokenizer from Llama's.
PHI3_TOKENS = frozenset({"</s>", "<unk>", "<s>", "<|endoftext|>", "<|assistant|>"})

_STORED_AS: Mapping[str, str] = {"F64": "F32", "F32": "F32", "F16": "F16", "BF16": "BF16"}


class Placed(Struct, frozen=True):
    """A tensor of the file.

    Attributes:
        made: what it consists of.
        type: of its weights.
        offset: of its first byte, from the start of the weights.
        size: bytes, and ``padding`` zeros after them.
    """

    made: Made
    type: WeightType
    offset: int
    size: int
    padding: int


class Plan(Struct, frozen=True):
    """A file to be made of a folder.

    Attributes:
        head: everything before the weights.
        tensors: in the order of the file.
        size: bytes of the file.
        header: what the file will say of itself.
        notes: what a user should know, in sentences.
    """

    target: FileType
    head: bytes
    tensors: tuple[Placed, ...]
    size: int
    header: Header
    notes: tuple[str, ...]


def plan(
    folder: Folder,
    target: FileType | None = None,
    *,
    title: str = "",
    ignored: Collection[str] = (),
    pre_tokenizer: str = "",
) -> Plan:
    """The plan for one folder.

    Args:
        folder: of a whole model.
        target: what the file is to be; as the folder is, if nothing is said.
        title: what the model calls itself in the file; the folder's name if empty.
        ignored: fields of ``config.json`` that the user says compute nothing.
        pre_tokenizer: llama.cpp's name of how text is cut before it is tokenised, if the user knows better.

    Raises:
        ModelDamaged: something is missing, not sound, or does not fit together.
        Unsupported: such a model cannot be converted; says why.
    """
    model = read_model(folder, ignored=ignored)
    values = text_values(folder.read_object(FILE))
    vocabulary = read_vocabulary(folder, values, rows=_rows(model), pre=pre_tokenizer)
    return planned(model, vocabulary, target or TARGETS[stored_as(folder)], folder.tensors(), title or folder.name)


def read_model(folder: Folder, *, ignored: Collection[str] = ()) -> Model:
    """The model in a folder, without its vocabulary.

    Args:
        folder: of a whole model.
        ignored: fields of ``config.json`` that the user says compute nothing.

    Raises:
        ModelDamaged: something is missing, not sound, or does not fit together.
        Unsupported: the engine computes such a model otherwise; says why.
    """
    if not folder.has(FILE):
        raise ModelDamaged(f"{FILE} is missing in the folder")
    whole = folder.read_object(FILE)
    family = FAMILIES[architecture_of(whole)]
    values = text_values(whole)
    _expect_weights(whole, values, ignored)
    return family(Config(values, ignored=ignored), folder)


def planned(model: Model, vocabulary: Vocabulary, target: FileType, stored: Mapping[str, Stored], title: str) -> Plan:
    """The plan for a model whose family and vocabulary are known. Pure.

    Raises:
        ModelDamaged: what the file would say is not sound.
        Unsupported: the model cannot become this.
    """
    pairs = metadata(model, vocabulary, target, title)
    sources = tuple(_info(made, stored) for made in model.tensors)
    forms = _types(Header("model", VERSION, _values(pairs), sources, DEFAULT_ALIGNMENT, 0, 0), target)

    made = {one.name: one for one in model.tensors}
    tensors, infos, due = [], [], 0
    for source, form in forms:
        size = source.count // form.block * form.size
        placed = Placed(made[source.name], form, due, size, -size % DEFAULT_ALIGNMENT)
        tensors.append(placed)
        infos.append(TensorInfo(source.name, form, source.shape, due, size))
        due += size + placed.padding

    head = beginning(len(tensors), len(pairs)) + b"".join(pair(key, value) for key, value in pairs.items())
    head += b"".join(tensor_info(info.name, info.shape, info.type, info.offset) for info in infos)
    head += bytes(-len(head) % DEFAULT_ALIGNMENT)
    header = Header(
        title, VERSION, _values(pairs), tuple(infos), DEFAULT_ALIGNMENT, len(head), len(head) + due,
        repeated_token=_repeated(vocabulary.tokens),
    )  # fmt: skip
    wrong = complaint(header)
    if wrong:
        raise ModelDamaged(f"the model cannot run: {wrong}")
    return Plan(target, head, tuple(tensors), header.file_size, header, (*model.notes, *vocabulary.notes))


# The configuration


def architecture_of(values: Mapping[str, Any]) -> str:
    """The class of the model, one of ``FAMILIES``.

    Raises:
        ModelDamaged: there is none.
        Unsupported: it is not known here; says which are.
    """
    classes = values.get("architectures")
    if not isinstance(classes, list) or not classes or not isinstance(classes[0], str):
        raise ModelDamaged(f"{FILE}: architectures must name the model's class, as LlamaForCausalLM")
    if classes[0] not in FAMILIES:
        raise Unsupported(
            f"{FILE}: models of class {classes[0]!r:.60} cannot be converted; known are {', '.join(sorted(FAMILIES))}"
        )
    return classes[0]


def text_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields that describe the text model; one that sees has them one level deeper.

    Raises:
        ModelDamaged: they are no object.
    """
    inner = values.get("text_config")
    if inner is None:
        return values
    if not isinstance(inner, dict):
        raise ModelDamaged(f"{FILE}: text_config must be an object")
    return inner


def stored_as(folder: Folder) -> str:
    """The file type that holds the folder's weights as they are, by what most of them are.

    Raises:
        ModelDamaged: the folder is not sound.
        Unsupported: they are no floats.
    """
    weights: Counter[str] = Counter()
    for stored in folder.tensors().values():
        weights[stored.dtype] += stored.size
    floats = {_STORED_AS[dtype]: size for dtype, size in weights.items() if dtype in _STORED_AS}
    if not floats:
        raise Unsupported("the folder has no weights of type F32, F16 or BF16")
    return max(floats, key=lambda name: floats[name])


def _expect_weights(whole: Mapping[str, Any], values: Mapping[str, Any], ignored: Collection[str]) -> None:
    """Refuses weights that another program has quantized, by the name of how it was done."""
    quantization = values.get(QUANTIZATION) or whole.get(QUANTIZATION)
    if not quantization or QUANTIZATION in ignored:
        return
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method != "mxfp4":  # as gpt-oss was trained
        by = f" by {shortened(method, 40)}" if isinstance(method, str) else ""
        raise Unsupported(f"{FILE}: this folder is quantized{by} already; give the model it was made of")


# The file


def metadata(model: Model, vocabulary: Vocabulary, target: FileType, title: str) -> dict[str, Plain]:
    """All pairs of the file, in order.

    Raises:
        ModelDamaged: the vocabulary and the embeddings do not fit together.
    """
    if _rows(model) != vocabulary.size:
        raise ModelDamaged(f"the vocabulary has {vocabulary.size} tokens, the embeddings have {_rows(model)}")
    return {
        "general.architecture": model.architecture,
        "general.type": "model",
        "general.name": safe_title(title, vocabulary),
        "general.size_label": counted(sum(made.count for made in model.tensors)),
        **dict(model.pairs),
        **{key: _plain(value) for key, value in vocabulary.pairs() if key not in dict(model.pairs)},
        "general.quantization_version": QUANTIZATION_VERSION,
        "general.file_type": target.number,
    }


def safe_title(title: str, vocabulary: Vocabulary) -> str:
    """The model's name, such that llama.cpp takes it for a Phi-3 if, and only if, its tokenizer is Phi-3's.

    It goes by the name alone: in a Phi-3, special tokens swallow the spaces after them; and if it takes another for
    one, it ends the process over tokens that are not there.
    """
    is_phi3 = vocabulary.model == "llama" and PHI3_TOKENS.issubset(vocabulary.tokens)
    if not is_phi3:
        return re.sub(r"(phi)-?(3)", r"\1 \2", title, flags=re.IGNORECASE)
    return title if re.search(r"phi-?3", title, re.IGNORECASE) else f"{title} (Phi-3)"


def _rows(model: Model) -> int:
    """How many tokens the embeddings are for."""
    return next((made.shape[0] for made in model.tensors if made.name == "token_embd.weight"), 0)


def _plain(value: Any) -> Plain:
    """A value of the vocabulary, which comes in NumPy's types."""
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype == np.uint8 else value.tolist()
    return int(value) if isinstance(value, np.integer) else value


def _values(pairs: Mapping[str, Plain]) -> dict[str, Value]:
    """The pairs as a reader of the file would find them."""
    return {key: _value(key, value) for key, value in pairs.items()}


def _value(key: str, value: Plain) -> Value:
    if isinstance(value, bytes):
        return Array("u8", len(value), 0)
    if isinstance(value, bool | int | float | str):
        return value
    if key.startswith("tokenizer."):
        kind = {str: "string", int: "i32", float: "f32"}[type(value[0])]
        return Array(kind, len(value), 0)
    return tuple(value)


def _info(made: Made, stored: Mapping[str, Stored]) -> TensorInfo:
    """The tensor as a converter without quantisation would write it: the mixtures begin there."""
    if not made.name or len(made.name.encode()) > LONGEST_NAME:
        raise ModelDamaged(f"tensor {made.name!r:.80} has an impossible name")
    shape = tuple(reversed(made.shape))
    if made.packed:
        form = weight_type(made.packed)
    else:
        dtypes = {stored[source].dtype for part in made.parts for source in part.sources}
        wide = made.values or made.shift or len(dtypes) != 1 or dtypes == {"F64"}
        form = weight_type("F32" if wide else _STORED_AS[dtypes.pop()])
    return TensorInfo(made.name, form, shape, 0, made.count // form.block * form.size)


def _types(header: Header, target: FileType) -> tuple[tuple[TensorInfo, WeightType], ...]:
    """Each tensor and its type in the file."""
    chosen = []
    for source, name in mixed(header, target):
        form = weight_type(name)
        if is_quantized(source.type):
            form = source.type  # packed already; to pack it again would lose more than it saves
        elif is_kept(source, header.architecture):
            form = weight_type("F32")
        elif is_spared(source, header, target):
            form = weight_type("F16")
        else:
            expect_no_matrix(source.name, form, target)
        chosen.append((source, form))
    return tuple(chosen)


def _repeated(tokens: tuple[str, ...]) -> int:
    """Index of the first token whose text an earlier one has, or -1."""
    if len(set(tokens)) == len(tokens):
        return -1
    seen: set[str] = set()
    for index, token in enumerate(tokens):
        if token in seen:
            return index
        seen.add(token)
    return -1
