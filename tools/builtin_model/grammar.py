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
_SPACES = re.compile(r"  +")


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
    return _SPACES.sub(" ", text).replace(" ,", ",").strip()


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
_BEFORE = {
    "en": "I [installed|set up|started with] LocalModels [yesterday|last week|today|an hour ago].|I am [new here|no expert|a student|a beginner|a bit lost].|"
    "I [run|have|use] LocalModels on [my laptop|a small server|Linux|my Mac|an old PC|Windows].|My [boss|team|friend|sister|teacher] [asked me|wants to know].|"
    "I [looked|searched] [everywhere|in the manual] and found nothing.|[Sorry|Excuse me], [one more|a simple|a silly|another] question.|"
    "I have been [reading|thinking] about this [all day|for a while].|We [discussed|talked about] this at [work|lunch|school].|"
    "You [surely|probably] know this.|I [hope|think] you can help [me|].|It is [late|Monday|raining] and I am [curious|stuck].|"
    "[Good|Nice], [that works|I understood that]. [Now|Next] [another thing|something else].|I need [it|this] for a [talk|report|test].|"
    "Don't laugh.|I always [mix this up|forget this].|Yesterday I still knew it.|Let's see what you know.",
    "es": "[Instalé|Acabo de instalar] LocalModels [ayer|hoy|la semana pasada|].|Soy [nuevo aquí|estudiante|principiante] [y estoy algo perdido|].|"
    "Uso LocalModels en [mi portátil|un servidor pequeño|Linux|mi Mac|un PC viejo].|Mi [jefe|equipo|amiga|hermana|profesora] [me preguntó|quiere saberlo].|"
    "[Busqué|He mirado] [por todas partes|en el manual] y no encontré nada.|[Perdona|Disculpe], una pregunta [más|sencilla|tonta].|"
    "Llevo [todo el día|un rato] [pensando|leyendo] sobre esto.|Lo [hablamos|discutimos] en [el trabajo|clase|la comida].|"
    "Seguro que lo sabes.|Espero que puedas ayudarme.|Es [tarde|lunes] y estoy [confundido|atascado].|"
    "[Bien|Vale], [eso funciona|eso lo entendí]. [Ahora|Siguiente:] otra cosa.|Lo necesito para una [charla|prueba|clase].|"
    "No te rías.|Siempre [me confundo|lo olvido].|Ayer todavía lo sabía.|A ver qué sabes.",
    "ru": "Я [поставил|установил|запустил] LocalModels [вчера|сегодня|на прошлой неделе|час назад].|Я [тут новенький|студент|новичок] [и немного запутался|].|"
    "У меня LocalModels на [ноутбуке|маленьком сервере|Linux|маке|старом компьютере].|[Начальник|Друг|Учитель|Брат] [спросил меня|хочет знать].|"
    "[Искал|Смотрел] [везде|в документации] и ничего не нашёл.|[Извини|Простите], [ещё один|простой|глупый] вопрос.|"
    "Я [весь день|давно] об этом [думаю|читаю].|Мы [обсуждали|говорили об] этом на [работе|уроке|обеде].|"
    "Ты наверняка это знаешь.|Надеюсь, ты поможешь.|Уже [поздно|вечер], и я [запутался|застрял].|"
    "[Хорошо|Ладно], [это работает|это я понял]. Теперь [другое|ещё одно].|Мне это нужно для [доклада|урока|экзамена].|"
    "Только не смейся.|Я вечно [это путаю|это забываю].|Вчера ещё помнил.|Посмотрим, что ты знаешь.",
}
"""Whole sentences that say nothing about the topic: the question is the other sentence."""
_AFTER = {
    "en": "I [looked|searched] in the manual[, but found nothing|].|I am [new here|only a beginner].|My [boss|friend|teacher] wants to know.|"
    "I [need|want] [it|this] [today|soon|for work].|[Please keep it|Keep it] short.|I [always|] forget it.|Thanks in advance!|"
    "[One|A single] sentence is enough.|I could not [find|work] it [out|] [myself|].|I am on [Linux|a Mac|Windows].",
    "es": "[Miré|Busqué] en el manual[ y no encontré nada|].|Soy [nuevo|principiante].|Mi [jefe|amiga|profesor] quiere saberlo.|"
    "Lo necesito [hoy|pronto|para el trabajo].|Sé breve, por favor.|Siempre lo olvido.|¡Gracias de antemano!|"
    "Basta una frase.|No logro averiguarlo.|Uso [Linux|un Mac|Windows].",
    "ru": "[Смотрел|Искал] в документации[, но не нашёл|].|Я [новичок|тут недавно].|[Начальник|Друг|Учитель] хочет знать.|"
    "Мне нужно [сегодня|срочно|для работы].|Только коротко.|Вечно забываю.|Заранее спасибо!|"
    "Хватит одного предложения.|Сам не разобрался.|У меня [Linux|Windows|мак].",
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
    return " ".join(word for word in words if len(word) > 3 or not word.islower() or rng.random() > 0.4) or text


def _capital(text: str) -> str:
    first = 1 if text.startswith(("¿", "¡")) else 0
    return text[:first] + text[first : first + 1].upper() + text[first + 1 :]


def _surround(text: str, lang: str, rng: random.Random) -> str:
    """A sentence about something else, before or after."""
    if rng.random() < 0.7:
        return f"{expand(_BEFORE[lang], rng)} {_capital(text)}"
    return f"{text}{'' if text[-1:] in '.?!' else '.'} {expand(_AFTER[lang], rng)}"


def _ending(text: str, lang: str, rng: random.Random, exclaims: bool) -> str:
    """Full stop, question mark or nothing, with their Spanish counterparts in front."""
    if text[-1:] in ".!?…)`":
        return text
    if not exclaims:
        text += rng.choices(("?", "", ".", "??", "!", " ?"), (60, 26, 7, 3, 2, 2))[0]
        if lang == "es" and text[-1] == "?" and "¿" not in text and rng.random() < 0.65:
            head, mark, last = text.rpartition(". " if ". " in text else ", " if rng.random() < 0.5 else "\n")
            return f"{head}{mark}¿{last}"
        return text
    text += rng.choices(("!", "", ".", "!!", "?", " :)"), (42, 28, 22, 3, 3, 2))[0]
    if lang == "es" and text[-1] == "!" and rng.random() < 0.65:
        head, comma, last = text.rpartition(", ")
        return f"{head}{comma}¡{last}" if rng.random() < 0.5 else f"¡{text}"
    return text


def roughen(
    question: str, lang: str, rng: random.Random, keep: bool = False, loose: bool = False, exclaims: bool = False
) -> str:
    """Adds openers, closers, case, punctuation and slips to a plain question.

    ``keep`` is for text whose letters matter (a name to copy): then only the frame around it changes.
    ``loose`` is for questions that live by a few words: then small words may go missing too, and a sentence about
    something else may stand before or after. ``exclaims`` is for what is no question, such as a greeting.
    """
    text = _loosen(question, rng) if loose and rng.random() < 0.16 else question
    asks = rng.random()
    if asks < (0.04 if exclaims else 0.28):
        text = f"{expand(_OPENERS[lang], rng)} {text}"
    if rng.random() < (0.02 if exclaims else 0.12):
        text = f"{text}{',' if rng.random() < 0.6 else ''} {expand(_CLOSERS[lang], rng)}"
    text = _ending(text, lang, rng, exclaims)
    if loose and asks > 0.9:
        text = _surround(text, lang, rng)
    style = rng.random()
    if style < 0.62 or keep:
        text = _capital(text)
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
