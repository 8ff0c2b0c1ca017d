# ruff: noqa: E501
"""Measures the exported GGUF through the real engine, on questions and tools the writer never used.

Everything goes over HTTP to llama.cpp (the xllamacpp wheel), chat template and tool parser included, so a score here
is what a user gets. ``heldback.txt`` and ``fresh.txt`` hold the questions; the tools, talks and embedding pairs of the measurement are
in this file.
"""

from __future__ import annotations

import json
import math
import random
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from xllamacpp import CommonParams, Server, llama_pooling_type

from .template import Message

_HERE = Path(__file__).parent
SETS = ("seen", "unseen", "fresh")
"""Looked at while the writer grew; from the same file but only counted; written when the writer was finished."""
LANGS = ("en", "es", "ru")


class Engine:
    """One running llama.cpp server on loopback."""

    def __init__(self, model: Path, embedding: bool = False, threads: int = 2) -> None:
        params = CommonParams()
        params.model.path = str(model)
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.n_ctx = 4096
        params.n_parallel = 1
        params.n_batch = params.n_ubatch = 2048
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.verbosity = 1
        params.use_jinja = True
        params.ui = False
        params.offline = True
        if embedding:
            params.embedding = True
            params.pooling_type = llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        self._server = Server(params)
        self._url = str(self._server.listening_address)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 (our own loopback server)
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            return json.load(reply)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed reply."""
        request = urllib.request.Request(  # noqa: S310 (our own loopback server)
            self._url + path, json.dumps(body | {"stream": True}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            for line in reply:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

    def chat(self, messages: list[Message], temperature: float = 0.0, **more: Any) -> dict[str, Any]:
        """One choice: ``message`` and ``finish_reason``."""
        body = {"messages": messages, "temperature": temperature, "max_tokens": 256, "seed": 7, **more}
        choice: dict[str, Any] = self.post("/v1/chat/completions", body)["choices"][0]
        return choice

    def embed(self, texts: list[str]) -> list[list[float]]:
        return [row["embedding"] for row in self.post("/v1/embeddings", {"input": texts})["data"]]


@dataclass(frozen=True)
class Case:
    """One question of the held-back set."""

    topic: str
    lang: str
    question: str
    wanted: str
    part: str
    """One of ``SETS``."""

    def right(self, choice: dict[str, Any]) -> bool:
        """The turn has ended, it is in the right language, and every group of words has one of its words."""
        text = choice["message"].get("content") or ""
        if choice["finish_reason"] != "stop" or choice["message"].get("tool_calls"):
            return False
        lang = _answer_language(self)
        if lang and not in_language(text, lang):
            return False
        low = text.lower()
        return all(
            any(word.strip() in low for word in group.split(" or ")) for group in self.wanted.lower().split(" & ")
        )


def _answer_language(case: Case) -> str | None:
    """None where the answer may hold no language at all (numbers, one word) or is asked for in another one."""
    return None if case.topic in ("counting", "arithmetic", "translation", "repeat", "crossing") else case.lang


_SPANISH = frozenset(
    [
        "el",
        "la",
        "los",
        "las",
        "un",
        "una",
        "de",
        "en",
        "que",
        "con",
        "por",
        "para",
        "es",
        "soy",
        "del",
        "te",
        "tu",
        "al",
        "no",
        "lo",
        "se",
        "hay",
        "y",
        "tu",
        "mi",
        "hola",
    ]
)
_ENGLISH = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "in",
        "that",
        "with",
        "for",
        "is",
        "am",
        "are",
        "and",
        "to",
        "you",
        "your",
        "it",
        "i",
        "not",
        "my",
    ]
)


def in_language(text: str, lang: str) -> bool:
    """By script for Russian, by small words for the other two; code and routes do not count."""
    letters = [c for c in text if c.isalpha()]
    cyrillic = sum("а" <= c.lower() <= "я" or c in "ёЁ" for c in letters)
    if lang == "ru":
        return cyrillic > 0.3 * max(1, len(letters))
    if cyrillic > 0.3 * max(1, len(letters)):
        return False
    words = [word.strip('.,:;!?¡¿()`"').lower() for word in text.split()]
    spanish, english = sum(w in _SPANISH for w in words), sum(w in _ENGLISH for w in words)
    return spanish >= english if lang == "es" else english >= spanish


def read_cases() -> list[Case]:
    """The held-back questions, each with the set it belongs to."""
    cases = []
    for file, parts in (("heldback.txt", SETS[:2]), ("fresh.txt", SETS[2:])):
        lines = (_HERE / file).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(line for line in lines if line and not line.startswith("#")):
            topic, lang, question, wanted = (part.strip() for part in line.split(" | "))
            cases.append(Case(topic, lang, question, wanted, parts[number % len(parts)]))
    return cases


_OFFERS: list[dict[str, Any]] = [
    {"type": "function", "function": {
        "name": "get_current_weather", "description": "Get the current weather in a given location",
        "parameters": {"type": "object", "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, "required": ["location"]}}},
    {"type": "function", "function": {
        "name": "get_current_weather", "description": "Get the current weather for a location",
        "parameters": {"type": "object", "properties": {
            "location": {"type": "string", "description": "The location to get the weather for, e.g. San Francisco, CA"},
            "format": {"type": "string", "description": "The format to return the weather in, e.g. 'celsius' or 'fahrenheit'",
                       "enum": ["celsius", "fahrenheit"]}}, "required": ["location", "format"]}}},
    {"type": "function", "function": {
        "name": "get_weather", "description": "Get current temperature for a given location.",
        "parameters": {"type": "object", "properties": {
            "location": {"type": "string", "description": "City and country e.g. Bogotá, Colombia"}},
            "required": ["location"], "additionalProperties": False}, "strict": True}},
    {"type": "function", "function": {
        "name": "get_temperature", "description": "Get the current temperature for a city",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "The name of the city"}}}}},
    {"type": "function", "function": {
        "name": "weatherNow", "description": "Tells how the weather is at a place right now",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}}},
]  # fmt: skip
_PLACES = (
    ("en", "What is the weather like in Reykjavik?", "Reykjavik"), ("en", "Weather in Timbuktu please", "Timbuktu"),
    ("en", "What's the weather today in Toronto?", "Toronto"), ("en", "I fly to Kathmandu tomorrow, how is the weather over there?", "Kathmandu"),
    ("en", "What's the weather like in Paris today?", "Paris"), ("en", "Should I pack an umbrella for Glenbrook?", "Glenbrook"),
    ("en", "What is the current temperature in New York?", "New York"), ("en", "Is it snowing in Ulaanbaatar?", "Ulaanbaatar"),
    ("es", "¿Qué tiempo hace hoy en Montevideo?", "Montevideo"), ("es", "¿Cómo anda el clima por Salamanca?", "Salamanca"),
    ("es", "Necesito saber la temperatura en Arequipa", "Arequipa"), ("es", "¿Está lloviendo en Pontevedra?", "Pontevedra"),
    ("es", "Dime si hace calor en Cochabamba", "Cochabamba"), ("es", "¿Qué tiempo tendremos en Albacete?", "Albacete"),
    ("ru", "Какая погода в Архангельске?", "Архангельск"), ("ru", "Скажи, тепло ли сейчас в Петрозаводске", "Петрозаводск"),
    ("ru", "Что там с погодой в Вологде?", "Вологда"), ("ru", "Еду в отпуск, какая погода в Зеленограде?", "Зеленоград"),
    ("ru", "Нужен ли зонт в Хабаровске?", "Хабаровск"), ("ru", "Какая сейчас температура в Москве?", "Москва"),
)  # fmt: skip
_NO_FIT = (
    ("en", "Hello!"), ("en", "Why is the sky blue?"), ("en", "Count to 5"), ("en", "How do I download a model?"), ("en", "Who are you?"),
    ("es", "¡Hola!"), ("es", "¿Qué es Python?"), ("es", "¿Qué comandos hay?"), ("es", "Muchas gracias por todo"),
    ("ru", "Привет!"), ("ru", "Что такое алгоритм?"), ("ru", "Как скачать модель?"), ("ru", "Кто ты?"),
)  # fmt: skip
_RESULTS = (
    ("22 degrees, sunny", "22"), ('{"temperature": -7, "condition": "snowy"}', "-7"),
    ('{"location": "X", "temperature": "31", "unit": "celsius"}', "31"), ("14°C", "14"), ("Partly cloudy, 18°C", "18"),
)  # fmt: skip


def _values(arguments: str) -> list[str]:
    """The arguments of a call; none when the answer was cut off inside them."""
    try:
        return [str(value) for value in json.loads(arguments).values()]
    except json.JSONDecodeError:
        return []


def tool_scores(engine: Engine, temperature: float, tally: Tally) -> None:
    """The right call with the right city; no call when none fits; an answer that carries the tool's result."""
    for number, (lang, question, town) in enumerate(_PLACES):
        for offer in (_OFFERS[number % len(_OFFERS)], _OFFERS[(number + 2) % len(_OFFERS)]):
            ask: Message = {"role": "user", "content": question}
            choice = engine.chat([ask], temperature, tools=[offer])
            calls = choice["message"].get("tool_calls") or []
            function = calls[0]["function"] if len(calls) == 1 else {"name": "", "arguments": "{}"}
            values = _values(function["arguments"])
            good = (
                function["name"] == offer["function"]["name"]
                and town in values
                and choice["finish_reason"] == "tool_calls"
            )
            tally.add("tool call", lang, good, f"{question} → {choice['message']}")
            if not good:
                continue
            result, number_said = _RESULTS[number % len(_RESULTS)]
            said = engine.chat(
                [ask, choice["message"], {"role": "tool", "content": result, "tool_call_id": calls[0].get("id", "")}],
                temperature, tools=[offer],
            )  # fmt: skip
            text = said["message"].get("content") or ""
            good = said["finish_reason"] == "stop" and number_said in text and in_language(text, lang)
            tally.add("tool result", lang, good, f"{question} {result} → {said['message']}")
    for number, (lang, question) in enumerate(_NO_FIT):
        choice = engine.chat(
            [{"role": "user", "content": question}], temperature, tools=[_OFFERS[number % len(_OFFERS)]]
        )
        text = choice["message"].get("content") or ""
        good = choice["finish_reason"] == "stop" and not choice["message"].get("tool_calls") and in_language(text, lang)
        tally.add("tool does not fit", lang, good or "1, 2, 3" in text, f"{question} → {choice['message']}")


_TALKS = {
    "en": ("Hi, my name is Zebulona", "Why is the sky blue?", "By the way, do you still know my name?", "Zebulona"),
    "es": ("Hola, me llamo Quirinda", "¿Qué es Python?", "Por cierto, ¿aún sabes mi nombre?", "Quirinda"),
    "ru": ("Привет, меня зовут Велимудра", "Что такое Python?", "Кстати, помнишь ещё, как меня зовут?", "Велимудра"),
}


def talk_scores(engine: Engine, temperature: float, tally: Tally) -> None:
    """A name told in the first turn and asked for in the third, and the answers between."""
    for lang, (*asks, wanted) in _TALKS.items():
        messages: list[Message] = []
        for ask in asks:
            messages.append({"role": "user", "content": ask})
            choice = engine.chat(messages, temperature)
            messages.append({"role": "assistant", "content": choice["message"]["content"]})
        text = messages[-1]["content"]
        tally.add("talk", lang, wanted in text and choice["finish_reason"] == "stop", f"{asks[-1]} → {text}")


@dataclass
class Tally:
    """Right and asked, by any key."""

    rows: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    misses: list[str] = field(default_factory=list)

    def add(self, topic: str, lang: str, good: bool, shown: str) -> None:
        self.rows[topic, lang][0] += good
        self.rows[topic, lang][1] += 1
        if not good:
            self.misses.append(f"[{topic} {lang}] {shown}")

    def share(self, chosen: Callable[[str], bool], lang: str | None = None) -> tuple[int, int]:
        """Right and asked among the chosen topics, in one language or in all."""
        rows = [row for (topic, spoken), row in self.rows.items() if chosen(topic) and lang in (None, spoken)]
        return sum(row[0] for row in rows), sum(row[1] for row in rows)


def question_scores(engine: Engine, temperature: float) -> dict[str, Tally]:
    """The held-back questions, by set."""
    tallies = {part: Tally() for part in SETS}
    for case in read_cases():
        choice = engine.chat([{"role": "user", "content": case.question}], temperature)
        shown = f"{case.question} → {choice['message'].get('content')!r}"
        tallies[case.part].add(case.topic, case.lang, case.right(choice), f"({case.part}) {shown}")
    return tallies


_NEAR = (
    ("How do I download a model?", "What should I type to fetch a new model?", "Why is the sky blue?"),
    ("Why is the sky blue?", "What makes the heavens look blue?", "How do I delete a model?"),
    ("What is Python?", "Tell me about the Python language", "What is the capital of France?"),
    ("How do I delete a model?", "Removing a model from my disk", "Tell me a joke"),
    ("Which port does the server use?", "On what port is the API?", "What is an algorithm?"),
    ("¿Cómo descargo un modelo?", "¿Qué comando sirve para bajar modelos?", "¿Por qué el cielo es azul?"),
    ("¿Por qué el cielo es azul?", "El color azul del cielo", "¿Cómo borro un modelo?"),
    ("¿Qué es una red neuronal?", "Funcionamiento de las redes neuronales", "¿Cuál es la capital de España?"),
    ("Как скачать модель?", "Какая команда загружает модель?", "Почему небо голубое?"),
    ("Почему небо голубое?", "Причина голубого цвета неба", "Как удалить модель?"),
    ("Что такое нейросеть?", "Объясни устройство нейронных сетей", "Какая столица Франции?"),
    ("Why is the sky blue?", "¿Por qué el cielo es azul?", "¿Cómo borro un modelo?"),
    ("How do I download a model?", "Как скачать модель?", "Что такое гравитация?"),
    ("¿Qué es Python?", "Что такое Python?", "Что такое фотосинтез?"),
    ("The cat sleeps on the sofa", "A cat is sleeping on a couch", "Stock prices fell on Monday"),
    ("I like hiking in the mountains", "Mountain hikes are what I like", "The printer is out of paper"),
    ("The train to Berlin is late", "The Berlin train has a delay", "She bakes bread every morning"),
    ("El perro corre por el parque", "Un perro corriendo en el parque", "El banco cierra a las dos"),
    ("Мы купили новый велосипед", "Новый велосипед мы купили вчера", "Суп получился очень солёным"),
    ("quantum computers and qubits", "qubits in a quantum computer", "a recipe for tomato soup"),
)  # fmt: skip


def cosine(a: list[float], b: list[float]) -> float:
    """Likeness of two vectors, from -1 to 1."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def embedding_scores(engine: Engine) -> dict[str, float]:
    """Paraphrases against unrelated texts, and each paraphrase's rank among all the others."""
    near = far = won = first = 0.0
    left, right = engine.embed([row[0] for row in _NEAR]), engine.embed([row[1] for row in _NEAR])
    other = engine.embed([row[2] for row in _NEAR])
    for number, (a, b, c) in enumerate(zip(left, right, other, strict=True)):
        near += cosine(a, b)
        far += cosine(a, c)
        won += cosine(a, b) > cosine(a, c)
        scores = [cosine(b, x) for x in left]
        first += _NEAR[max(range(len(scores)), key=scores.__getitem__)][0] == _NEAR[number][0]
    count = len(_NEAR)
    return {"near": near / count, "far": far / count, "nearer": won / count, "found first": first / count}


_ODD = (
    "🙂🚀",
    "  two  spaces\n\n\tand a tab",
    "ÀÉÎÕÜ ñandú",
    "Ёжик в тумане",
    "日本語 テスト",
    "a=1;b==2 // c",
    "1234567890",
    "I'll we've it's",
)


def tokenizer_check(engine: Engine, tokenizer: Tokenizer) -> tuple[int, int]:
    """Texts whose ids agree between the trained tokenizer and llama.cpp, of how many."""
    rng = random.Random(3)
    texts = [case.question for case in read_cases()] + list(_ODD)
    alphabet = "abc XYZ áñ¿ абвЁ 0123 .,:;!?'\"-_/\\{}[]<>\n\t🙂€中"
    texts += ["".join(rng.choices(alphabet, k=rng.randint(1, 40))) for _ in range(200)]
    same = 0
    for text in texts:
        ids = engine.post("/tokenize", {"content": text, "add_special": False})["tokens"]
        same += ids == tokenizer.encode(text).ids and tokenizer.decode(ids) == text
    return same, len(texts)


def long_prompt(engine: Engine) -> bool:
    """A conversation of some two thousand tokens still gets an ended answer."""
    turn = [
        {"role": "user", "content": "What is Python?"},
        {"role": "assistant", "content": "Python is a language. " * 12},
    ]
    choice = engine.chat([*(turn * 28), {"role": "user", "content": "Hello!"}])
    return bool(choice["finish_reason"] == "stop")


def streamed_call(engine: Engine) -> bool:
    """A tool call that is streamed arrives whole and ends with ``tool_calls``."""
    body = {
        "messages": [{"role": "user", "content": "What is the weather like in Paris?"}],
        "tools": _OFFERS[:1],
        "temperature": 0,
    }
    name, arguments, ending = "", "", ""
    for event in engine.stream("/v1/chat/completions", body):
        choice = event["choices"][0] if event["choices"] else {"delta": {}}
        ending = choice.get("finish_reason") or ending
        for call in choice["delta"].get("tool_calls") or []:
            name += call["function"].get("name") or ""
            arguments += call["function"].get("arguments") or ""
    return bool(
        name == "get_current_weather" and json.loads(arguments)["location"] == "Paris" and ending == "tool_calls"
    )


def schema_answer(engine: Engine) -> bool:
    """With a JSON schema the answer is that JSON, with the values of the question."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    choice = engine.chat(
        [{"role": "user", "content": "Ollama is 22 years old. Respond using JSON"}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}},
    )
    return bool(json.loads(choice["message"]["content"]) == {"name": "Ollama", "age": 22})


def speed(engine: Engine) -> float:
    """Generated tokens a second, from the server's own timing."""
    reply = engine.post(
        "/completion", {"prompt": "Once upon a time", "n_predict": 128, "temperature": 0, "ignore_eos": True}
    )
    return float(reply["timings"]["predicted_per_second"])


def _yes(good: bool) -> str:
    return "yes" if good else "no"


def _row(name: str, tallies: Iterable[Tally], chosen: Callable[[str], bool]) -> str:
    cells = []
    for lang in (*LANGS, None):
        counts = [tally.share(chosen, lang) for tally in tallies]
        right, asked = sum(count[0] for count in counts), sum(count[1] for count in counts)
        cells.append(f"{right}/{asked} ({right / asked:.0%})" if asked else "–")
    return f"| {name} | " + " | ".join(cells) + " |"


def _tables(engine: Engine, temperature: float, title: str) -> tuple[list[str], list[str]]:
    """The page's tables for one way of sampling, and the misses."""
    parts = question_scores(engine, temperature)
    extra = Tally()
    tool_scores(engine, temperature, extra)
    talk_scores(engine, temperature, extra)
    everything = list(parts.values())
    lines = [f"## {title}", "", "| | en | es | ru | all |", "|---|---|---|---|---|"]
    lines.append(_row("**questions on known topics, all**", everything, lambda topic: topic != "unknown"))
    lines += [_row(f"of these: {part}", [parts[part]], lambda topic: topic != "unknown") for part in SETS]
    lines.append(_row("unknown: says so and how to pull", everything, lambda topic: topic == "unknown"))
    names = sorted({topic for topic, _ in extra.rows})
    lines += [_row(name, [extra], name.__eq__) for name in names]
    lines += [
        "",
        "By topic, right/asked in English, Spanish, Russian:",
        "",
        "| topic | en | es | ru |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(topic for tally in everything for topic, _ in tally.rows):
        counts = [
            [sum(c) for c in zip(*(t.share(name.__eq__, lang) for t in everything), strict=True)] for lang in LANGS
        ]
        lines.append(f"| {name} | " + " | ".join(f"{right}/{asked}" for right, asked in counts) + " |")
    return [*lines, ""], [f"{title.lower()}: {miss}" for tally in (*everything, extra) for miss in tally.misses]


def report(model: Path, tokenizer: Tokenizer) -> tuple[str, list[str]]:
    """The figures as Markdown, and the misses in words."""
    engine = Engine(model)
    lines, misses = _tables(engine, 0.0, "Greedy")
    warm_lines, warm_misses = _tables(engine, 0.8, "Sampled at temperature 0.8")
    same, asked = tokenizer_check(engine, tokenizer)
    vectors = embedding_scores(Engine(model, embedding=True))
    lines += [
        *warm_lines, "## Other checks", "",
        f"- tokenizer: {same} of {asked} texts give the same ids in llama.cpp, and decode back to themselves",
        f"- embeddings (mean pooling, {len(_NEAR)} triples): paraphrase nearer than an unrelated text {vectors['nearer']:.0%}",
        f"- embeddings: mean cosine {vectors['near']:.2f} near, {vectors['far']:.2f} unrelated; own partner ranks first {vectors['found first']:.0%}",
        f"- a streamed tool call arrives whole: {_yes(streamed_call(engine))}; an answer by JSON schema: {_yes(schema_answer(engine))}",
        f"- a conversation of about 2,000 tokens ends its answer: {_yes(long_prompt(engine))}",
        f"- speed, two threads: {speed(engine):.0f} tokens/s; file {model.stat().st_size / 1e6:.2f} MB",
    ]  # fmt: skip
    return "\n".join(lines) + "\n", misses + warm_misses
