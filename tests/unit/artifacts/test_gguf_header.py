from math import prod

import pytest

from localmodels.artifacts.gguf_header import FILE_TYPES, WEIGHT_TYPES, Header, TensorInfo, Value, counted
from localmodels.artifacts.gguf_rules import complaint


def header(**metadata: Value) -> Header:
    """A sound header of 4 layers, with some keys of the architecture changed (``_`` stands for a dot)."""
    sound: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 4,
        "llama.context_length": 4096,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
    }
    changed = {f"llama.{name.replace('__', '.')}": value for name, value in metadata.items()}
    tensor = TensorInfo("output.weight", WEIGHT_TYPES[8], (64, 100), 0, 6800)
    return Header("m.gguf", 3, sound | changed, (tensor,), 32, 0, 6800)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (12, "12"),
        (999_999, "1000K"),
        (494_032_768, "494.03M"),
        (7_000_000, "7M"),
        (8_030_261_248, "8.0B"),
        (70_553_706_496, "70.6B"),
        (3_000_000_000, "3B"),
    ],
)
def test_parameters_are_counted_as_ollama_does(number: int, text: str) -> None:
    assert counted(number) == text


def test_what_is_given_once_holds_for_every_layer() -> None:
    assert header(attention__head_count_kv=2).kv_heads == (2, 2, 2, 2)


def test_what_is_given_by_layer_is_kept_by_layer() -> None:
    assert header(attention__head_count_kv=(1, 0, 2, 4)).kv_heads == (1, 0, 2, 4)


def test_without_key_heads_every_query_head_has_its_own() -> None:
    assert header().kv_heads == (4, 4, 4, 4)


def test_the_width_of_a_head_follows_from_the_others() -> None:
    assert (header().key_length, header(attention__key_length=128).key_length) == (16, 128)


def test_where_the_file_type_is_not_told_most_weights_decide() -> None:
    assert header().quantization_level == "Q8_0"


def test_parameters_are_the_weights_and_not_their_bytes() -> None:
    assert header().parameter_count == 6400


def test_file_types_have_names_of_weight_types() -> None:
    names = {kind.name for kind in WEIGHT_TYPES.values()}
    assert all(any(known.startswith(name.split("_MOE")[0][:4]) for known in names) for name in FILE_TYPES.values())


def test_a_sound_header_is_not_complained_about() -> None:
    assert complaint(header()) == ""


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("attention__head_count_kv", 3, "4 query heads cannot share 3"),
        ("attention__head_count_kv", (4, 4), "has 2 values"),
        ("rope__scaling__type", "magic", "must be one of"),
        ("rope__dimension_count", 15, "must be even"),
        ("expert_used_count", 2, "2 of 0 experts"),
        ("nextn_predict_layers", 9, "must not exceed"),
        ("attention__layer_norm_rms_epsilon", -1.0, "not below 0"),
        ("pooling_type", True, "must be from 0 to 4"),
    ],
)
def test_a_senseless_value_is_complained_about(name: str, value: Value, part: str) -> None:
    assert part in complaint(header(**{name: value}))


def encoder(**tensors: tuple[int, ...]) -> Header:
    """One of BERT's kind, with these tensors (``_`` stands for a dot)."""
    metadata: dict[str, Value] = {"general.architecture": "bert", "bert.embedding_length": 64}
    found = tuple(
        TensorInfo(f"{name.replace('_', '.')}.weight", WEIGHT_TYPES[0], shape, 0, 4 * prod(shape))
        for name, shape in tensors.items()
    )
    return Header("m.gguf", 3, metadata, found, 32, 0, 0)


@pytest.mark.parametrize(
    ("file", "capabilities"),
    [
        (header(pooling_type=4), ("rerank",)),
        (header(pooling_type=1), ("embedding",)),
        (header(), ("completion",)),
        (encoder(), ("embedding",)),
        (encoder(cls=(64, 64), cls_output=(64, 1)), ("rerank",)),
        (encoder(cls=(64, 1)), ("rerank",)),
        (encoder(cls=(64, 64), cls_output=(64, 3)), ("embedding",)),
    ],
    ids=["Qwen3's", "embeds", "writes", "an encoder", "BGE's", "Jina's", "sorts into three classes"],
)
def test_a_reranker_is_one_and_no_embedder(file: Header, capabilities: tuple[str, ...]) -> None:
    assert file.capabilities() == capabilities
    assert (file.is_reranker, file.is_embedding) == ("rerank" in capabilities, "embedding" in capabilities)
