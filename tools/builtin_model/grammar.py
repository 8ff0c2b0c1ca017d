# ruff: noqa: E501
"""Turns short patterns into many phrasings, and roughens them the way people type.

A pattern is text with alternatives: ``[get|fetch] a [new |]model``. Brackets nest; a bar outside any bracket
separates whole alternatives; ``<how>`` stands for the named rule of the language. Patterns are written by hand in
``topics/*.txt``; everything random comes from the caller's generator, so one seed gives one text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

Node: TypeAlias = "str | tuple[Node, ...] | list[Node]"
"""A literal, a sequence (tuple) or a choice (list)."""

_TOKEN = re.compile(r"[\[\]|]|[^\[\]|]+")


@cache
def _parse(pattern: str) -> Node:
    tokens = _TOKEN.findall(pattern)
    node, used = _choice(tokens, 0)
    if used != len(tokens):
        raise ValueError(f"unbalanced bracket in pattern: {pattern!r}")
    return node


def _choice(tokens: list[str], at: int) -> tuple[Node, int]:
    options: list[Node] = []
    parts: list[Node] = []
    while at < len(tokens) and tokens[at] != "]":
        part = tokens[at]
        at += 1
        if part == "[":
            inner, at = _choice(tokens, at)
            if at >= len(tokens):
                raise ValueError("bracket is never closed: " + "".join(tokens))
            parts.append(inner)
            at += 1
        elif part == "|":
            options.append(tuple(parts))
            parts = []
        else:
            parts.append(part)
    options.append(tuple(parts))
    return (options if len(options) > 1 else options[0]), at


def _draw(node: Node, rng: random.Random) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return _draw(rng.choice(node), rng)
    return "".join(_draw(part, rng) for part in node)


def expand(pattern: str, rng: random.Random, rules: Mapping[str, str] | None = None) -> str:
    """Draws one text from ``pattern``; ``<name>`` is replaced by a draw from ``rules[name]``."""
    text = _draw(_parse(pattern), rng)
    for name, body in (rules or {}).items():
        marker = f"<{name}>"
        while marker in text:
            text = text.replace(marker, _draw(_parse(body), rng), 1)
    return re.sub(r"  +", " ", text).strip()


_OPENERS = {
    "en": "please|hey,|hi,|hello,|can you tell me|could you tell me|tell me|quick question:|so|ok,|question:|"
    "I was wondering,|sorry,|well,|I'd like to know|do you know|just curious,|hi there!|good morning,|ok now|and|"
    "another one:|[my|a] [friend|colleague|teacher|son|wife|neighbour|student] [asked|wants to know]:|"
    "[I have|there is] [a|one] [question|problem|doubt]:|[listen|look|say],|I am [new|a beginner|not an expert], so|"
    "[for|in] my [project|work|homework|class|school]:|[today|yesterday|once] I [heard|read] [about it|something],|"
    "[please|kindly] [help|explain|answer]:|I [forgot|never learned|am not sure|have no idea],|what about this:|"
    "I [really |]need [your|some] [help|advice]:|everyone [talks|speaks|asks] about it,|excuse me,|dear assistant,|"
    "would you [kindly|please] [tell|explain|say]:|let me ask [you|this]:|in that case,|thanks, now|next:|"
    "I [just|have just] [started|installed it|begun],|it is [important|urgent]:|[honestly|seriously],|right,|by the way,",
    "es": "por favor,|oye,|hola,|¿puedes decirme|¿me puedes decir|dime,|una pregunta:|bueno,|disculpa,|perdona,|"
    "quisiera saber|me gustaría saber|¿sabes|a ver,|buenas,|hola, una duda:|y|ahora,|otra cosa:|"
    "[mi|un|una] [amigo|colega|profesor|hija|vecino|alumno] [pregunta|quiere saber]:|tengo una [pregunta|duda]:|"
    "[mira|escucha],|soy [nuevo|principiante], así que|[para|en] mi [proyecto|trabajo|tarea|clase]:|"
    "[hoy|ayer] [oí|leí] [algo|sobre eso],|[ayúdame|contesta|responde], por favor:|[olvidé|no sé|nunca aprendí] eso,|"
    "necesito [ayuda|un consejo]:|todos hablan de eso,|perdón,|estimado asistente,|¿podrías [decirme|explicar]:|"
    "déjame preguntarte:|en ese caso,|gracias, ahora|siguiente:|acabo de [empezar|instalarlo],|es [importante|urgente]:|"
    "[la verdad|en serio],|por cierto,|¿me ayudas?|una consulta:|cuando puedas,",
    "ru": "пожалуйста,|привет,|здравствуйте,|скажи,|подскажи,|скажите,|вопрос:|слушай,|извини,|хочу узнать,|интересно,|"
    "ты знаешь,|можешь сказать,|ну,|привет!|а|подскажите, пожалуйста,|ещё вопрос:|и|"
    "[друг|коллега|учитель|сын|сосед|студент|жена] [спросил|спрашивает|хочет знать]:|у меня [вопрос|проблема]:|"
    "[смотри|послушай],|я [новичок|не специалист|начинающий], поэтому|[для|в] [проекте|работы|школы|урока]:|"
    "[сегодня|вчера] [слышал|читал] об этом,|[помоги|ответь|объясни], пожалуйста:|[забыл|не знаю|не понимаю] этого,|"
    "мне нужен [совет|ответ]:|все об этом говорят,|простите,|уважаемый помощник,|не мог бы ты [сказать|объяснить]:|"
    "позволь спросить:|в таком случае,|спасибо, теперь|дальше:|я только [начал|поставил],|это [важно|срочно]:|"
    "[честно|серьёзно],|кстати,|напомни,|будь добр,|такой вопрос:",
}
_CLOSERS = {
    "en": "please|thanks|thank you|briefly|in simple words|in a few words|exactly|in short|pls|I am new here|for a beginner|"
    "can you help|if you know|do you know|any idea|I [forgot|don't know|am not sure]|right now|today|here|again|actually|"
    "in one sentence|what do I do|I need it for [work|school|my project]|it's urgent|just a hint|tell me",
    "es": "por favor|gracias|brevemente|en pocas palabras|con palabras sencillas|exactamente|soy nuevo aquí|"
    "para principiantes|en resumen|si lo sabes|me ayudas|lo sabes|alguna idea|lo olvidé|no lo sé|ahora|hoy|aquí|"
    "otra vez|en una frase|qué hago|lo necesito para [el trabajo|la escuela]|es urgente|dime",
    "ru": "пожалуйста|спасибо|кратко|простыми словами|в двух словах|если знаешь|я новичок|для начинающих|коротко|поможешь|"
    "если можно|ты знаешь|есть идеи|я забыл|не знаю|сейчас|сегодня|здесь|ещё раз|одной фразой|что делать|"
    "нужно для [работы|школы|проекта]|срочно|скажи|вообще|всё-таки",
}
_ACCENTS = str.maketrans("áéíóúüñÁÉÍÓÚÜ", "aeiouunAEIOUU")


def _typo(text: str, rng: random.Random) -> str:
    """One slip of the finger inside a lower-case word; slots such as names and file paths are left alone."""
    spots = [m for m in re.finditer(r"(?<![\w/`.:=<-])[^\W\d_]{4,}(?![\w/`.:=>])", text) if m.group().islower()]
    if not spots:
        return text
    word = rng.choice(spots)
    at = word.start() + rng.randrange(1, len(word.group()) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def _loosen(text: str, rng: random.Random) -> str:
    """Drops some small words, swaps two neighbours or begins in the middle: what stays is what tells the topic."""
    words = text.split(" ")
    if len(words) < 4:
        return text
    kind = rng.random()
    if kind < 0.25:
        at = rng.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
        return " ".join(words)
    if kind < 0.45:
        at = rng.randrange(1, len(words))
        return " ".join(words[at:] + words[:at])
    return " ".join(word for word in words if len(word) > 4 or not word.isalpha() or rng.random() > 0.4) or text


def roughen(question: str, lang: str, rng: random.Random, keep: bool = False, loose: bool = False) -> str:
    """Adds openers, closers, case, punctuation and slips to a plain question.

    ``keep`` is for text whose letters matter (a name to copy): then only the frame around it changes.
    ``loose`` is for questions that live by a few words: then small words may go missing too.
    """
    text = _loosen(question, rng) if loose and rng.random() < 0.24 else question
    asks = rng.random()
    if asks < 0.28:
        text = f"{expand(_OPENERS[lang], rng)} {text}"
    end = ""
    if rng.random() < 0.12:
        end = f"{',' if rng.random() < 0.6 else ''} {expand(_CLOSERS[lang], rng)}"
    text += end
    if text[-1:] not in ".!?…)`":
        text += rng.choices(("?", "", ".", "??", "!", " ?"), (60, 26, 7, 3, 2, 2))[0]
    if lang == "es" and text.endswith("?") and "¿" not in text and rng.random() < 0.65:
        text = "¿" + text
    style = rng.random()
    if style < 0.62 or keep:
        first = 1 if text.startswith("¿") else 0
        text = text[:first] + text[first : first + 1].upper() + text[first + 1 :]
    elif style > 0.985:
        text = text.upper()
    elif style > 0.96:
        text = text.lower()
    if lang == "es" and rng.random() < 0.2 and not keep:
        text = text.translate(_ACCENTS)
    if lang == "ru" and rng.random() < 0.6:
        text = text.replace("ё", "е")
    if not keep and rng.random() < 0.07:
        text = _typo(text, rng)
    return text
