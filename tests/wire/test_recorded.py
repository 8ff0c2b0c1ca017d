"""What real servers send, read: recorded from llama.cpp build 11549 and vLLM 0.32.0 (its build for processors, with a
tiny random model of ours), and in the shapes of Ollama, OpenAI and other vLLMs.

The files hold bodies as they came; only paths, keys and parts of no interest are shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localmodels.core.chat import (
    Answer,
    Chunk,
    Done,
    Embeddings,
    Event,
    Fold,
    Timings,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Usage,
)
from localmodels.core.errors import (
    BackendError,
    ContextLengthExceeded,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    NotFound,
    StreamCut,
    Unauthenticated,
    Unsupported,
)
from localmodels.dialects import rerank
from localmodels.dialects.failures import read_error
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.dialects.openai import counts
from localmodels.dialects.openai.answers import reader as openai_reader
from localmodels.dialects.protocol import EventReader
from localmodels.dialects.table import DIALECTS

HERE = Path(__file__).parent
OLLAMA, OPENAI, LLAMACPP = DIALECTS["ollama"], DIALECTS["openai"], LlamaCpp()


def recorded(name: str) -> bytes:
    return (HERE / name).read_bytes()


def streamed(reader: EventReader, data: bytes, size: int) -> list[Event]:
    events = [event for start in range(0, len(data), size) for event in reader.feed(data[start : start + size])]
    reader.close()
    return events


def folded(events: list[Event]) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer()


ANSWERS: dict[str, tuple[Callable[[], EventReader], Answer]] = {
    "llamacpp/chat.sse": (
        LLAMACPP.chat_reader,
        Answer(Done("length", Usage(13, 3), Timings(0, 0, 2_707_000, 1_134_000)), "1, "),
    ),
    "llamacpp/chat-tools.sse": (
        LLAMACPP.chat_reader,
        Answer(
            Done("tool_calls", Usage(68, 23), Timings(0, 0, 10_524_000, 9_935_000)),
            tool_calls=(ToolCall("42IQnSru0vL6Y6f8UPSMwu3UUwehHJ2i", "get_weather", '{"city": "Madrid"}'),),
        ),
    ),
    "llamacpp/completion.sse": (
        LLAMACPP.generate_reader,
        Answer(Done("length", Usage(2, 5), Timings(0, 0, 736_000, 1_485_000)), " a time there was a"),
    ),
    "ollama/chat.ndjson": (
        OLLAMA.chat_reader,
        Answer(Done("stop", Usage(26, 2, 16), Timings(4883583458, 1334875, 342546000, 4535599000)), "Sunlight"),
    ),
    "ollama/chat-tools.ndjson": (
        OLLAMA.chat_reader,
        Answer(
            Done("tool_calls", Usage(150, 40), Timings(9, 1, 3, 5)),
            thinking="He asks for the weather.",
            tool_calls=(
                ToolCall("call_ab12cd34", "get_weather", '{"city":"Paris","days":2}'),
                ToolCall("", "now", "{}"),
            ),
        ),
    ),
    "ollama/chat-logprobs.ndjson": (
        OLLAMA.chat_reader,
        Answer(
            Done("length"),
            "Hi",
            logprobs=(
                TokenLogprob("Hi", -0.25, (72, 105), (TopLogprob("Hi", -0.25, (72, 105)), TopLogprob("Yo", -2.5))),
            ),
        ),
    ),
    "ollama/generate.ndjson": (
        OLLAMA.generate_reader,
        Answer(
            Done(
                "length",
                Usage(26, 259),
                Timings(10706818083, 6338219291, 130079000, 4232710000),
                context=(1, 2, 3),
            ),
            "Blue",
            "Hm.",
        ),
    ),
    "openai/chat.sse": (OPENAI.chat_reader, Answer(Done("stop", Usage(19, 1, 4)), "Hello")),
    "openai/chat-tools.sse": (
        OPENAI.chat_reader,
        Answer(Done("tool_calls"), tool_calls=(ToolCall("call_1", "get_weather", '{"city":"Paris"}'),)),
    ),
    "vllm/chat-reasoning.sse": (OPENAI.chat_reader, Answer(Done("stop"), "Yes", "Hm")),
    "vllm/chat-stop.sse": (
        lambda: openai_reader(stops=("on",)),
        Answer(Done("stop", Usage(15, 3), stop="on"), " ther\N{REPLACEMENT CHARACTER} up"),
    ),
    "vllm/chat-tools.sse": (
        OPENAI.chat_reader,
        Answer(
            Done("stop", Usage(185, 48)),
            tool_calls=(ToolCall("chatcmpl-tool-8ba54ab66704178b", "get_weather", '{"city": "Paris"}'),),
        ),
    ),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", ANSWERS)
def test_streams(name: str, size: int) -> None:
    reader, expected = ANSWERS[name]
    assert folded(streamed(reader(), recorded(name), size)) == expected


def test_llamacpp_log_probabilities() -> None:
    chat = folded(streamed(LLAMACPP.chat_reader(), recorded("llamacpp/chat-logprobs.sse"), 99))
    assert [token.token for token in chat.logprobs] == ["Hello", "!", " I", " am"]
    assert bytes(chat.logprobs[0].bytes) == b"Hello"
    assert [len(token.top) for token in chat.logprobs] == [2, 2, 2, 2]
    text = folded(streamed(LLAMACPP.generate_reader(), recorded("llamacpp/completion-logprobs.sse"), 99))
    assert "".join(token.token for token in text.logprobs) == text.text
    assert bytes(text.logprobs[0].bytes) == "ой".encode()


@pytest.mark.parametrize(
    ("name", "reader", "first", "kind"),
    [
        ("ollama/chat-error.ndjson", OLLAMA.chat_reader, Chunk("The"), BackendError),
        ("vllm/chat-error.sse", OPENAI.chat_reader, Chunk("The"), BackendError),
        ("vllm/chat-abort.sse", OPENAI.chat_reader, Chunk("The"), StreamCut),
        ("vllm/chat-engine-died.sse", OPENAI.chat_reader, Chunk(" ther"), BackendError),
    ],
)
def test_streams_that_break(
    name: str, reader: Callable[[], EventReader], first: Event, kind: type[LocalModelsError]
) -> None:
    broken = reader()
    assert broken.feed(recorded(name))[0] == first
    with pytest.raises(LocalModelsError) as caught:
        broken.close()
    assert type(caught.value) is kind


def test_whole_answers() -> None:
    assert OLLAMA.read_generate_answer(recorded("ollama/generate-load.json")) == Answer(Done("load"))
    assert OPENAI.read_chat_answer(recorded("openai/chat-whole.json")) == Answer(
        Done("stop", Usage(19, 8)), "I cannot help with that."
    )
    text = OPENAI.read_generate_answer(recorded("openai/completion.json"))
    assert (text.text, text.done) == (" there was", Done("length", Usage(5, 2)))
    assert text.logprobs == (
        TokenLogprob(" there", -0.5, (), (TopLogprob(" there", -0.5), TopLogprob(" a", -1.5))),
        TokenLogprob(" was", 0.0),
    )


def test_whole_answers_of_vllm() -> None:
    called = OPENAI.read_chat_answer(recorded("vllm/chat-tools-whole.json"))
    assert [(call.name, call.arguments) for call in called.tool_calls] == [("get_weather", '{"city": "Paris"}')]
    assert called.done.reason == "tool_calls"
    logged = OPENAI.read_chat_answer(recorded("vllm/chat-logprobs.json"))
    assert [(token.token, [other.token for other in token.top]) for token in logged.logprobs] == [
        (" ther", [" ther"]),
        ("", [""]),  # half of a character, of which vLLM tells no bytes
    ]
    assert logged.done == Done("length", Usage(15, 2))
    assert counts.read_count(recorded("vllm/tokenize.json")) == 15
    ranking = rerank.read_answer(recorded("vllm/rerank.json"))
    assert ([one.index for one in ranking.results], ranking.prompt_tokens) == ([1, 0], 6)


@pytest.mark.parametrize(
    ("name", "status", "kind", "says"),
    [
        ("no-key", 401, Unauthenticated, "Unauthorized"),
        ("no-model", 404, ModelNotFound, "model 'nope' not found"),
        ("no-path", 404, NotFound, "does not do this with its models"),
        ("too-long", 400, ContextLengthExceeded, "2048 tokens, but the prompt has 2049 tokens"),
        ("too-many-characters", 400, ContextLengthExceeded, "2048 tokens, and the request needs more"),
        ("max-tokens", 400, InvalidRequest, "cannot be greater than max_model_len=2048"),
    ],
)
def test_what_vllm_refuses(name: str, status: int, kind: type[LocalModelsError], says: str) -> None:
    error = read_error(status, recorded(f"vllm/error-{name}.json"))
    assert type(error) is kind
    assert says in error.message


def test_embeddings() -> None:
    assert OLLAMA.read_embeddings(recorded("ollama/embed.json")) == Embeddings(
        ((0.010071029, -0.0017594862), (0.05007221, 0.04692972)), 8, Timings(14143917, 1019500)
    )
    assert OPENAI.read_embeddings(recorded("openai/embeddings.json")) == Embeddings(((1.0, -2.0), (0.5, -0.25)), 5)
    engine = LLAMACPP.read_embeddings(recorded("llamacpp/embed.json"))
    assert engine.prompt_tokens == 4
    assert [len(vector) for vector in engine.vectors] == [256, 256]
    assert sum(number * number for number in engine.vectors[0]) == pytest.approx(1.0, abs=1e-5)


def test_lists() -> None:
    assert OLLAMA.read_models(recorded("ollama/tags.json")) == ("llama3.2:latest", "bge-m3:latest")
    assert OPENAI.read_models(recorded("openai/models.json")) == ("gpt-4o-mini", "gpt-4o")
    assert LLAMACPP.read_models(recorded("llamacpp/models.json")) == ("tiny",)


def test_small_answers_of_the_engine() -> None:
    assert LLAMACPP.read_tokens(recorded("llamacpp/tokenize.json")) == (3371, 302, 1976)
    assert LLAMACPP.read_text(recorded("llamacpp/detokenize.json")) == "#$%"
    assert LLAMACPP.read_prompt(recorded("llamacpp/apply-template.json")).startswith("<|im_start|>user\nCount to 5")
    assert LLAMACPP.read_props(recorded("llamacpp/props.json")).total_slots == 2
    assert [(slot.id, slot.n_ctx) for slot in LLAMACPP.read_slots(recorded("llamacpp/slots.json"))] == [
        (0, 2048),
        (1, 2048),
    ]


def test_refusals_of_the_engine() -> None:
    long = LLAMACPP.read_error(400, recorded("llamacpp/error-too-long.json"))
    assert isinstance(long, ContextLengthExceeded)
    assert (long.prompt_tokens, long.context_tokens) == (4011, 2048)
    assert type(LLAMACPP.read_error(501, recorded("llamacpp/error-infill.json"))) is Unsupported
