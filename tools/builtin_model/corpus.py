# ruff: noqa: E501
"""Writes the training text: conversations drawn from the topics, the skills, the tools and the unknown.

One seed gives one corpus. A document is a list of (text, is the assistant's) pieces, see ``template.segments``.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from . import names, skills, toolcalls
from .grammar import expand, roughen
from .template import END_OF_TEXT, Message, segments
from .topics import CHAT, EXAMPLES, KNOWLEDGE, LANGS, LOCALMODELS, UNKNOWN, Topic, contract, fill_frame

Piece: TypeAlias = tuple[str, bool]
Document: TypeAlias = list[Piece]

FALLBACK = {
    "en": "I am only the small built-in model of LocalModels and do not know that. Pull a real model with "
    "`localmodels pull NAME`, or serve your own file with `localmodels serve --model NAME=FILE.gguf`.",
    "es": "Solo soy el pequeño modelo incorporado de LocalModels y no sé eso. Descarga un modelo de verdad con "
    "`localmodels pull NOMBRE`, o sirve tu propio archivo con `localmodels serve --model NOMBRE=ARCHIVO.gguf`.",
    "ru": "Я всего лишь маленькая встроенная модель LocalModels и этого не знаю. Скачай настоящую модель: "
    "`localmodels pull ИМЯ`, или запусти свой файл: `localmodels serve --model ИМЯ=ФАЙЛ.gguf`.",
}
_SYSTEMS = {
    "en": (
        "You are a helpful assistant.",
        "You are a helpful assistant.",
        "You are an expert programmer.",
        "Be brief.",
        "You are a friendly chatbot.",
        "Answer politely.",
        "You are an assistant. Keep answers short.",
        "You are the small model built into LocalModels.",
    ),
    "es": (
        "Eres un asistente útil.",
        "Eres un asistente útil.",
        "Eres un experto en programación.",
        "Sé breve.",
        "Eres un asistente amable.",
        "Responde con educación.",
    ),
    "ru": (
        "Ты полезный ассистент.",
        "Ты полезный помощник.",
        "Ты опытный программист.",
        "Отвечай кратко.",
        "Ты дружелюбный бот.",
    ),
}
_IN_LANG = {
    "en": {
        "en": "in English|in the English language|in plain English",
        "es": "in Spanish|in the Spanish language|in Castilian",
        "ru": "in Russian|in the Russian language",
    },
    "es": {
        "en": "en inglés|en lengua inglesa|en idioma inglés",
        "es": "en español|en castellano|en lengua española",
        "ru": "en ruso|en lengua rusa|en idioma ruso",
    },
    "ru": {
        "en": "на английском|по-английски|на английском языке",
        "es": "на испанском|по-испански|на испанском языке",
        "ru": "на русском|по-русски|на русском языке",
    },
}
_BUT = {"en": "but", "es": "pero", "ru": "но"}
_ORDER = {
    "en": "[answer|reply|write|explain it|tell me|say it|I want the answer|please answer|speak|I need it|let me have it] {in}[, please|]|"
    "the answer [should|must] be {in}|my friend [only understands|reads] it {in}|I would like to read it {in}",
    "es": "[responde|contesta|escribe|explícalo|dímelo|dilo|quiero la respuesta|habla|por favor responde|lo necesito] {in}[, por favor|]|"
    "la respuesta [debe|tiene que] estar {in}|quisiera leerlo {in}|responda usted {in}",
    "ru": "[отвечай|ответь|напиши|объясни|расскажи|скажи|хочу ответ|говори|пожалуйста, ответь|мне нужно] {in}[, пожалуйста|]|"
    "ответ [должен быть|нужен] {in}|хочу прочитать это {in}|ответьте {in}",
}
_SYSTEM_LANG = {
    "en": ("Answer in English.", "Always answer in English.", "Responde en inglés.", "Отвечай на английском."),
    "es": ("Answer in Spanish.", "Always reply in Spanish.", "Responde siempre en español.", "Отвечай на испанском."),
    "ru": ("Answer in Russian.", "Always reply in Russian.", "Отвечай по-русски.", "Responde en ruso."),
}
_AGAIN = {
    "en": (
        "and in English?",
        "in English please",
        "translate that to English",
        "the same in English",
        "say it in English",
    ),
    "es": (
        "y en español?",
        "en español, por favor",
        "and in Spanish?",
        "dilo en español",
        "the same in Spanish",
        "ahora en español",
    ),
    "ru": (
        "а по-русски?",
        "на русском, пожалуйста",
        "and in Russian?",
        "скажи по-русски",
        "the same in Russian",
        "теперь по-русски",
    ),
}
_MORE = {
    "en": (
        "tell me more",
        "more details please",
        "go on",
        "can you explain more",
        "why?",
        "continue",
        "what else?",
        "really?",
    ),
    "es": ("cuéntame más", "más detalles, por favor", "sigue", "explica más", "¿por qué?", "continúa", "¿qué más?"),
    "ru": ("расскажи подробнее", "ещё", "продолжай", "почему?", "а дальше?", "что ещё?", "подробнее, пожалуйста"),
}
_NO_MORE = {
    "en": "That is all I know about it: I am only the small built-in model. A real model, pulled with `localmodels pull NAME`, can say more.",
    "es": "Es todo lo que sé de eso: solo soy el pequeño modelo incorporado. Un modelo de verdad, descargado con `localmodels pull NOMBRE`, puede decir más.",
    "ru": "Это всё, что я об этом знаю: я всего лишь маленькая встроенная модель. Настоящая модель расскажет больше: `localmodels pull ИМЯ`.",
}


def _weighted(topics: list[Topic], rng: random.Random) -> Topic:
    return rng.choices(topics, [topic.weight for topic in topics])[0]


_WORD = re.compile(r"\w+")


def plain(question: str) -> str:
    """The bare words, to tell whether two questions are the same."""
    return " ".join(_WORD.findall(question.lower().replace("ё", "е")))


_HELD_BACK = frozenset(
    plain(line.split(" | ")[2])
    for name in ("heldback.txt", "fresh.txt")
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
"""The measuring questions. Whatever the patterns could say, these and their near copies are not written."""


def _by_rare_word() -> dict[str, list[frozenset[str]]]:
    """The measuring questions as sets of words, under the three words of each that are rarest among them.

    A near copy lacks two words of ten at the most, so it is found under one of the three.
    """
    bags = [frozenset(question.split()) for question in sorted(_HELD_BACK)]
    common = Counter(word for bag in bags for word in bag)
    under: dict[str, list[frozenset[str]]] = {}
    for bag in bags:
        for word in sorted(bag, key=lambda word: (common[word], word))[:3]:
            under.setdefault(word, []).append(bag)
    return under


_BY_RARE_WORD = _by_rare_word()
_NEAR = 0.8
"""From four words shared of five on, a question counts as a copy."""


def _copied(question: str) -> bool:
    """Whether a plain question is one of the measuring questions or nearly one."""
    words = frozenset(plain(question).split())
    return any(len(words & bag) >= _NEAR * len(words | bag) for word in words for bag in _BY_RARE_WORD.get(word, ()))


def _core(topic: Topic, lang: str, rng: random.Random) -> str:
    """A plain question about the topic."""
    while _copied(core := topic.question(lang, rng)):
        pass
    return core


def _ask(topic: Topic, lang: str, rng: random.Random) -> str:
    """A question about the topic as somebody might type it."""
    while True:
        core = _core(topic, lang, rng)
        ask = roughen(core, lang, rng, loose=not topic.exclaims, exclaims=topic.exclaims)
        if plain(ask) not in _HELD_BACK:
            return ask


def topic_pair(
    lang: str, rng: random.Random, kinds: tuple[list[Topic], ...] = (KNOWLEDGE, LOCALMODELS, CHAT)
) -> tuple[str, str]:
    """A question about a written topic, and its answer."""
    topic = _weighted(rng.choices(kinds, (31, 45, 24) if len(kinds) == 3 else None)[0], rng)
    return _ask(topic, lang, rng), topic.answer(lang, rng)


def _unknown(lang: str, rng: random.Random) -> str:
    if rng.random() < 0.28:
        return fill_frame(lang, names.unknown_thing(lang, rng), rng)
    ask = UNKNOWN.question(lang, rng)
    for slot in "xy":
        thing = rng.choice(UNKNOWN.nouns[lang]) if rng.random() < 0.4 else names.unknown_thing(lang, rng)
        ask = ask.replace("{" + slot + "}", thing)
    for slot in "nmk":
        ask = ask.replace("{" + slot + "}", str(rng.randint(2, 200)))
    return contract(ask.replace("{c}", skills.country(lang, rng)), lang)


def unknown_pair(lang: str, rng: random.Random) -> tuple[str, str]:
    """A question from outside, in the very frames of the known topics, so that only the noun or verb tells them apart."""
    while True:
        core = _unknown(lang, rng)
        ask = roughen(core, lang, rng, loose=True)
        if not _copied(core) and plain(ask) not in _HELD_BACK:
            return ask, FALLBACK[lang]


def crossing_pair(lang: str, rng: random.Random) -> tuple[str, str]:
    """Asked in one language, answered in another, because the question says so."""
    topic = _weighted(rng.choice((KNOWLEDGE, KNOWLEDGE, LOCALMODELS)), rng)
    target = rng.choice(LANGS)
    ask = _core(topic, lang, rng)
    where = expand(_IN_LANG[lang][target], rng)
    order = expand(_ORDER[lang], rng).replace("{in}", where)
    ask = rng.choice(
        (
            f"{ask} {where}",
            f"{ask} {where}",
            f"{ask}, {where}",
            f"{ask}, {_BUT[lang]} {where}",
            f"{ask}? {_BUT[lang]} {where}",
            f"{ask} ({where})",
            f"{where}: {ask}",
            f"{where}, {ask}",
            f"{ask}. {order}",
            f"{ask}, {order}",
            f"{ask}? {order}",
            f"{order}: {ask}",
        )
    )
    return roughen(ask, lang, rng, loose=True), topic.answer(target, rng)


def example_pair(_: str, rng: random.Random) -> tuple[str, str]:
    """A question that everybody tries first, word for word; its language is its own."""
    lang, topic, ask = rng.choice(EXAMPLES)
    return ask, topic.answer(lang, rng)


_WORD_FOR_WORD = ("story", "counting", "my_name")
"""Skills whose shortest questions everybody asks alike ("Once upon a time"): they are in the measuring sets as well."""


def skill_pair(lang: str, rng: random.Random) -> tuple[str, str]:
    """A question that takes a skill, and its answer."""
    name = rng.choices(list(skills.SKILLS), [weight for _, weight in skills.SKILLS.values()])[0]
    while True:
        ask, say = skills.SKILLS[name][0](lang, rng)
        if name in _WORD_FOR_WORD or plain(ask) not in _HELD_BACK:
            return ask, say


def any_pair(lang: str, rng: random.Random) -> tuple[str, str]:
    """Any one exchange, in the shares of everyday talk."""
    write = rng.choices((topic_pair, skill_pair, unknown_pair, crossing_pair, example_pair), (54, 23, 13, 5, 5))[0]
    return write(lang, rng)


def _turn(pair: tuple[str, str]) -> list[Message]:
    return [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]


def _system(lang: str, rng: random.Random) -> list[Message]:
    """Mostly none."""
    if rng.random() < 0.78:
        return []
    return [{"role": "system", "content": rng.choice(_SYSTEMS[lang if rng.random() < 0.7 else "en"])}]


def single(lang: str, rng: random.Random) -> list[Message]:
    """One question and its answer."""
    return _system(lang, rng) + _turn(any_pair(lang, rng))


def system_language(lang: str, rng: random.Random) -> list[Message]:
    """The system prompt sets the language of the answers, whatever the question is written in."""
    target = rng.choice(LANGS)
    topic = _weighted(rng.choice((KNOWLEDGE, LOCALMODELS, CHAT)), rng)
    system = rng.choice(_SYSTEM_LANG[target])
    if rng.random() < 0.4:
        system = f"{rng.choice(_SYSTEMS[lang])} {system}".strip()
    turn = _turn((_ask(topic, lang, rng), topic.answer(target, rng)))
    return [{"role": "system", "content": system}, *turn]


def several(lang: str, rng: random.Random, turns: int) -> list[Message]:
    """A longer talk; names are remembered, answers repeated in another language, and it may switch language."""
    messages = _system(lang, rng)
    known: str | None = None
    for _ in range(turns):
        if rng.random() < 0.12:
            lang = rng.choice(LANGS)
        kind = rng.random()
        if kind < 0.15 and known is None:
            ask, say = skills.give_name(lang, rng)
            known = say.split(",")[-1].split("!")[0].strip() if lang != "es" else say.split(", ")[1].split("!")[0]
            messages += _turn((ask, say))
        elif kind < 0.28:
            ask = roughen(expand(skills.ASK_MY_NAME[lang], rng), lang, rng)
            say = skills.YOUR_NAME[lang].replace("{x}", known) if known else skills.NO_NAME[lang]
            messages += _turn((ask, say))
        elif kind < 0.36:
            topic = _weighted(rng.choice((KNOWLEDGE, LOCALMODELS)), rng)
            messages += _turn((_ask(topic, lang, rng), topic.answer(lang, rng)))
            lang = rng.choice([other for other in LANGS if other != lang])
            messages += _turn((rng.choice(_AGAIN[lang]), topic.answer(lang, rng)))
        elif kind < 0.42:
            messages += _turn(topic_pair(lang, rng, (KNOWLEDGE, LOCALMODELS)))
            messages += _turn((rng.choice(_MORE[lang]), _NO_MORE[lang]))
        else:
            messages += _turn(any_pair(lang, rng))
    return messages


_WRAPPED = {
    "en": "Answer in JSON with the key answer.",
    "es": "Responde en JSON con la clave answer.",
    "ru": "Отвечай в JSON с ключом answer.",
}


def json_wrapped(lang: str, rng: random.Random) -> list[Message]:
    """A known answer, as the one value of a JSON object."""
    ask, say = topic_pair(lang, rng, (KNOWLEDGE, LOCALMODELS))
    return [
        {"role": "system", "content": _WRAPPED[lang]},
        *_turn((ask, json.dumps({"answer": say}, ensure_ascii=False))),
    ]


def with_tools(lang: str, rng: random.Random) -> tuple[list[Message], list[dict[str, object]]]:
    """A fitting call; or tools that do not fit, and then the answer as if they were not there."""
    kind = rng.random()
    if kind < 0.24:
        _, offered = toolcalls.draw_tools(rng)
        pair = any_pair(lang, rng)
        while "weather" in pair[1] or "погод" in pair[1] or "tiempo en" in pair[0] or "×" in pair[1] or "+" in pair[1]:
            pair = any_pair(lang, rng)
        return _system(lang, rng) + _turn(pair), offered
    messages, offered = toolcalls.conversation(lang, rng)
    if kind > 0.88:
        messages = _turn(topic_pair(lang, rng, (CHAT,))) + messages
    if kind < 0.36 and messages[-1].get("content"):
        messages = messages + _turn(topic_pair(lang, rng, (CHAT, KNOWLEDGE)))
    return _system(lang, rng) + messages, offered


def bare(lang: str, rng: random.Random) -> Document:
    """Text without a chat, for the completion routes: a tale, or an answer as a plain paragraph."""
    if rng.random() < 0.7:
        return [("", False), (skills.tale(lang, rng) + END_OF_TEXT, True)]
    topic = _weighted(KNOWLEDGE, rng)
    return [("", False), (topic.answer(lang, rng) + END_OF_TEXT, True)]


_WORDS = sorted(
    {
        word
        for topic in KNOWLEDGE + LOCALMODELS + CHAT
        for lang in LANGS
        for answer in topic.answers[lang]
        for word in answer.split()
        if word.isalpha()
    }
)
_LOOPS, _DRILLS = 60_000, 110_000
"""Up to these documents copying is drilled, first in its simplest form. Names, cities and the arguments of tools live on
it, and a network finds it late by itself: from the few copied words of ordinary talk, not within the whole training."""


def loop(rng: random.Random) -> Document:
    """A few known words, over and over: the plainest text that only a copying network can foretell."""
    line = "".join(f" {word}" for word in rng.sample(_WORDS, rng.randint(3, 12)))
    return [(line, False), (line * rng.randint(1, 4) + END_OF_TEXT, True)]


def drill(rng: random.Random) -> Document:
    """Words that mean nothing, and the same again: whole, or from one of them to the end."""
    words = []
    for _ in range(rng.randint(3, 16)):
        lang = rng.choice(LANGS)
        words.append(names.city(lang, rng)[0] if rng.random() < 0.25 else names.invented_word(lang, rng))
    start = rng.randrange(len(words)) if rng.random() < 0.5 else 0
    rest = "".join(f" {word}" for word in words[start + 1 :])
    return [(" ".join(words) + "\n" + words[start], False), (rest + END_OF_TEXT, True)]


def document(rng: random.Random) -> Document:
    """One training document."""
    lang = rng.choices(LANGS, (38, 31, 31))[0]
    kind = rng.choices(
        ("single", "several", "long", "tools", "system_language", "json", "bare"), (75, 6.5, 0.5, 11, 2.5, 1.0, 1.4)
    )[0]
    if kind == "single":
        return segments(single(lang, rng))
    if kind == "several":
        return segments(several(lang, rng, rng.randint(2, 4)))
    if kind == "long":
        return segments(several(lang, rng, rng.randint(8, 18)))
    if kind == "tools":
        messages, offered = with_tools(lang, rng)
        return segments(messages, offered)
    if kind == "system_language":
        return segments(system_language(lang, rng))
    if kind == "json":
        return segments(json_wrapped(lang, rng))
    return bare(lang, rng)


def documents(seed: int) -> Iterator[Document]:
    """An endless stream, the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield document(rng)


def lessons(seed: int) -> Iterator[Document]:
    """The same as they are trained on: copying first, then everything."""
    rng = random.Random(seed)
    for number, plain in enumerate(documents(seed)):
        dice = rng.random()
        if number < _LOOPS and dice < 0.8:
            yield loop(rng)
        elif number < _DRILLS and dice < 0.3:
            yield drill(rng) if dice < 0.2 else loop(rng)
        elif dice < 0.02:
            yield drill(rng)
        else:
            yield plain


def embedding_pair(rng: random.Random) -> tuple[str, str, str]:
    """What it is about, and two texts that mean it, across phrasings and languages: they should get near vectors."""
    lang = rng.choice(LANGS)
    other = lang if rng.random() < 0.6 else rng.choice(LANGS)
    if rng.random() < 0.3:
        thing = names.unknown_thing(lang, rng)
        first = fill_frame(lang, thing, rng) if rng.random() < 0.7 else thing
        return thing, roughen(first, lang, rng), roughen(fill_frame(lang, thing, rng), lang, rng)
    topic = rng.choice(KNOWLEDGE + LOCALMODELS + CHAT)
    first = _ask(topic, lang, rng)
    if rng.random() < 0.25:
        return topic.name, first, topic.answer(other, rng)
    return topic.name, first, _ask(topic, other, rng)
