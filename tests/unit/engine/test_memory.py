import pytest
from msgspec import structs

from localmodels.artifacts.gguf_header import WEIGHT_TYPES, Array, Header, TensorInfo, Value
from localmodels.core.options import Options
from localmodels.engine.hardware import Gpu, Hardware
from localmodels.engine.memory import (
    BATCH,
    CACHE_BYTES,
    CORE_SPEED,
    DEPARTURE,
    EMBEDDING_BATCH,
    ENCODER_BATCH,
    GPU_CONTEXT,
    PROCESS,
    SMALLEST_BATCH,
    UBATCH,
    Memory,
    Plan,
    estimate,
    plan,
)

MIB, GIB = 2**20, 2**30
LAYERS, WIDTH, VOCAB, CONTEXT = 8, 1024, 32_000, 32_768
LAYER_SIZE = 10 * MIB


def model(architecture: str = "llama", **metadata: Value) -> Header:
    """A model of 8 layers of 10 MiB, a 1,024 wide state, 16 heads of 64, 4 of them for keys and values."""
    sizes: dict[str, Value] = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": 4 * WIDTH,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
    }
    sizes |= {name.replace("__", "."): value for name, value in metadata.items()}
    keys: dict[str, Value] = {
        "general.architecture": architecture,
        "tokenizer.ggml.tokens": Array("string", VOCAB, 0),
        **{f"{architecture}.{name}": value for name, value in sizes.items()},
    }
    names = ["token_embd.weight", *(f"blk.{i}.ffn_up.weight" for i in range(LAYERS)), "output.weight"]
    tensors = tuple(TensorInfo(name, WEIGHT_TYPES[8], (LAYER_SIZE,), 0, LAYER_SIZE) for name in names)
    return Header("m.gguf", 3, keys, tensors, 32, 0, LAYER_SIZE * len(names))


PC = Hardware(cpus=8, cores=4, memory_total=16 * GIB, memory_available=12 * GIB)


def with_gpu(free: int) -> Hardware:
    return structs.replace(PC, gpus=(Gpu("card", 0, free, free, "cuda"),))


# Estimate


def test_weights_are_what_the_file_holds_and_what_comes_with_it() -> None:
    assert estimate(model(), Plan(4096, 1, extra=5)).weights == (LAYERS + 2) * LAYER_SIZE + 5


@pytest.mark.parametrize("cache", CACHE_BYTES)
def test_the_cache_is_a_key_and_a_value_for_each_head_layer_and_token(cache: str) -> None:
    numbers = LAYERS * 4 * (64 + 64) * 4096 * 3
    memory = estimate(model(), Plan(4096, 3, cache_k=cache, cache_v=cache))
    assert memory.kv_cache == int(numbers * CACHE_BYTES[cache])


def test_keys_and_values_may_have_formats_of_their_own() -> None:
    half = LAYERS * 4 * 64 * 4096
    assert estimate(model(), Plan(4096, 1, cache_k="f16", cache_v="q8_0")).kv_cache == half * 2 + half * 34 // 32


def test_layers_without_key_heads_keep_nothing() -> None:
    heads = (4, 0) * (LAYERS // 2)
    assert (
        estimate(model(attention__head_count_kv=heads), Plan(4096, 1)).kv_cache * 2
        == estimate(model(), Plan(4096, 1)).kv_cache
    )


def test_cells_come_in_256() -> None:
    assert estimate(model(), Plan(4097, 1)).kv_cache == estimate(model(), Plan(4352, 1)).kv_cache


def test_a_window_keeps_itself_and_one_batch() -> None:
    # gemma3: five of six layers; here 7 of 8, since the sixth only looks at everything.
    windowed = model("gemma3", attention__sliding_window=512)
    one = 4 * (64 + 64) * 2
    assert estimate(windowed, Plan(16_384, 2)).kv_cache == 2 * one * (7 * (512 + UBATCH) + 16_384)


def test_the_files_own_pattern_of_windows_counts() -> None:
    pattern = (True, False) * (LAYERS // 2)
    windowed = model("gemma4", attention__sliding_window=512, attention__sliding_window_pattern=pattern)
    one = 4 * (64 + 64) * 2
    assert estimate(windowed, Plan(16_384, 1)).kv_cache == one * (LAYERS // 2) * (1024 + 16_384)


def test_a_window_nobody_told_us_about_is_counted_in_full() -> None:
    assert (
        estimate(model("new", attention__sliding_window=512), Plan(16_384, 1)).kv_cache
        == estimate(model("new"), Plan(16_384, 1)).kv_cache
    )


def test_latent_attention_has_its_values_in_its_keys() -> None:
    latent = model("deepseek2", attention__head_count_kv=1, attention__key_length=576, attention__key_length_mla=192)
    assert estimate(latent, Plan(4096, 1)).kv_cache == LAYERS * 576 * 2 * 4096


def test_a_recurrent_model_keeps_one_state_a_request_whatever_the_context() -> None:
    mamba = model("mamba", ssm__inner_size=2048, ssm__state_size=16, ssm__conv_kernel=4, attention__head_count=0)
    state = 4 * (3 * 2048 + 2048 * 16)
    assert estimate(mamba, Plan(4096, 2)).kv_cache == estimate(mamba, Plan(65_536, 2)).kv_cache == 2 * LAYERS * state


def test_an_encoder_keeps_nothing_and_has_no_logits() -> None:
    memory = estimate(model("bert"), Plan(512, 4, embedding=True))
    assert memory.kv_cache == 0
    assert memory.compute < estimate(model(), Plan(512, 4, embedding=True)).compute - 4 * UBATCH * VOCAB


def test_the_compute_buffer_is_what_the_engine_reported_for_this_shape() -> None:
    """llama.cpp b11549 on Qwen2-0.5B's shape, 4 requests of 4,096 tokens: 41.27 MiB, and 0.49 MiB of outputs."""
    half_b = model(embedding_length=896, feed_forward_length=4864, attention__head_count=14, attention__head_count_kv=2)
    assert estimate(half_b, Plan(4096, 4)).compute / MIB == pytest.approx(41.27 + 0.49, rel=0.01)


def test_the_process_and_its_vocabulary_count() -> None:
    assert estimate(model(), Plan(4096, 1)).overhead > PROCESS


def test_a_memory_is_the_sum_of_its_parts() -> None:
    memory = Memory(weights=1, kv_cache=2, compute=4, overhead=8, gpu=5)
    assert (memory.total, memory.cpu) == (15, 10)


def test_layers_on_the_card_take_their_weights_and_their_cache_along() -> None:
    none, two, everything = (estimate(model(), Plan(4096, 1, gpu_layers=n)) for n in (0, 2, LAYERS + 1))
    assert none.gpu == 0
    # Layers are taken from the end; the output layer comes last.
    assert two.gpu == 2 * LAYER_SIZE + two.kv_cache // LAYERS * 2 + two.compute + GPU_CONTEXT
    assert everything.gpu == (LAYERS + 1) * LAYER_SIZE + everything.kv_cache + everything.compute + GPU_CONTEXT
    assert everything.cpu == LAYER_SIZE + everything.overhead - GPU_CONTEXT


# Plan


def test_without_wishes_a_model_gets_the_usual() -> None:
    made = plan(model(), Options(), PC)
    assert (made.context, made.parallel, made.cache_k, made.threads) == (4096, 4, "f16", 4)
    assert (made.batch, made.ubatch, made.gpu_layers, made.notes) == (UBATCH, UBATCH, 0, ())
    assert made.total_context == 4 * 4096


def test_a_plan_carries_its_estimate() -> None:
    made = plan(model(), Options(), PC)
    assert made.memory == estimate(model(), made)


def test_the_default_context_ends_where_training_did() -> None:
    made = plan(model(context_length=2048), Options(), PC)
    assert (made.context, made.notes) == (2048, ())


def test_more_context_than_trained_for_is_cut_and_said() -> None:
    made = plan(model(), Options(num_ctx=100_000), PC)
    assert made.context == CONTEXT
    assert made.notes == ("num_ctx 100000 is more than the 32768 tokens that m.gguf was trained for",)


@pytest.mark.parametrize(
    ("hardware", "parallel"),
    [
        (structs.replace(PC, cpus=16), 8),
        (with_gpu(24 * GIB), 8),
        (PC, 4),
        (structs.replace(PC, memory_available=300 * MIB), 2),
        (structs.replace(PC, memory_available=100 * MIB), 1),
        (structs.replace(PC, memory_available=0), 1),
    ],
)
def test_slots_follow_the_machine(hardware: Hardware, parallel: int) -> None:
    # One slot of 4,096 tokens takes 32 MiB here.
    assert plan(model(), Options(), hardware).parallel == parallel


def test_slots_that_were_asked_for_are_not_bargained_down() -> None:
    assert plan(model(), Options(num_parallel=6), structs.replace(PC, memory_available=0)).parallel == 6


def test_a_cache_in_blocks_needs_heads_in_blocks() -> None:
    made = plan(model(attention__key_length=80), Options(kv_cache_type="q8_0"), PC)
    assert made.cache_k == made.cache_v == "f16"
    assert "multiple of 32" in made.notes[0]


def test_all_layers_go_to_a_card_that_holds_them() -> None:
    assert plan(model(), Options(), with_gpu(24 * GIB)).gpu_layers == LAYERS + 1


def test_as_many_layers_as_fit_go_to_a_smaller_card() -> None:
    hardware = with_gpu(640 * MIB)
    made = plan(model(), Options(num_parallel=1), hardware)
    assert 0 < made.gpu_layers < LAYERS + 1
    assert made.memory.gpu <= 640 * MIB
    assert estimate(model(), structs.replace(made, gpu_layers=made.gpu_layers + 1)).gpu > 640 * MIB


def test_no_layer_goes_to_a_card_without_room() -> None:
    assert plan(model(), Options(), with_gpu(100 * MIB)).gpu_layers == 0


@pytest.mark.parametrize(("wanted", "given"), [(0, 0), (3, 3), (1000, LAYERS + 1)])
def test_layers_that_were_asked_for_are_given(wanted: int, given: int) -> None:
    assert plan(model(), Options(num_gpu=wanted), with_gpu(100 * MIB)).gpu_layers == given


def test_without_a_card_no_layer_can_go_there() -> None:
    assert plan(model(), Options(num_gpu=99), PC).gpu_layers == 0


def test_an_encoder_sees_its_whole_input_at_once() -> None:
    made = plan(model("bert"), Options(num_ctx=CONTEXT), PC)
    assert made.embedding
    assert made.batch == made.ubatch == ENCODER_BATCH


def test_a_talking_model_that_embeds_has_a_smaller_batch() -> None:
    made = plan(model(), Options(), PC, embedding=True)
    assert made.batch == made.ubatch == EMBEDDING_BATCH


def test_wishes_for_threads_batch_and_mapping_are_kept() -> None:
    made = plan(model(), Options(num_thread=7, num_batch=64, use_mmap=False, main_gpu=1), PC)
    assert (made.threads, made.batch, made.ubatch, made.mmap, made.main_gpu) == (7, 64, 64, False, 1)


def test_no_more_threads_than_processors() -> None:
    assert plan(model(), Options(num_thread=1024), PC).threads == PC.cpus


def test_a_batch_on_processors_ends_soon_after_its_client_has_left() -> None:
    for cores in (1, 2, 4, 64):
        for copies in (1, 10, 100):
            large = structs.replace(model(), tensors=model().tensors * copies)
            machine = structs.replace(PC, cores=cores)
            made = plan(large, Options(), machine)
            seconds = made.batch * 2 * large.parameter_count / (CORE_SPEED * cores)
            assert SMALLEST_BATCH <= made.batch <= UBATCH
            assert seconds <= DEPARTURE or made.batch == SMALLEST_BATCH
            assert seconds > DEPARTURE / 2 or made.batch == UBATCH


def test_what_was_asked_for_and_graphics_cards_keep_their_batch() -> None:
    large = structs.replace(model(), tensors=model().tensors * 100)
    assert plan(large, Options(num_batch=1024), PC).batch == 1024
    card = Gpu("card", 0, 80 * GIB, 80 * GIB, "cuda")
    assert plan(large, Options(), structs.replace(PC, gpus=(card,))).batch == BATCH
