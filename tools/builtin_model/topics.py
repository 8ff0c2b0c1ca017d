# ruff: noqa: E501
"""Reads ``topics/*.txt`` and asks about them in many ways. The file format is in ``topics/README.md``."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .grammar import expand

LANGS = ("en", "es", "ru")
_FOLDER = Path(__file__).parent / "topics"

FRAMES = {
    "en": (
        "what is {x}",
        "what's {x}",
        "what are {x}",
        "explain {x}",
        "explain what {x} is",
        "tell me about {x}",
        "can you explain {x}",
        "define {x}",
        "describe {x}",
        "what do you know about {x}",
        "what does {x} mean",
        "how does {x} work",
        "give me a [definition|short explanation|summary] of {x}",
        "what exactly is {x}",
        "I want to [know|learn|understand] {x}",
        "I [don't|do not] understand {x}",
        "{x}",
        "{x}, what is it",
        "teach me about {x}",
        "I'd like to [know|hear] about {x}",
        "help me understand {x}",
        "who or what is {x}",
        "what is meant by {x}",
        "say something about {x}",
        "what can you [tell|say] about {x}",
        "write about {x}",
        "summarise {x}",
        "give me information about {x}",
        "could you describe {x}",
        "what should I know about {x}",
        "why is {x} important",
        "what is {x} in simple terms",
        "[talk|tell me more] about {x}",
        "what is the idea of {x}",
        "explain {x} to a child",
        "explain {x} like I am five",
        "have you heard of {x}",
        "what is {x} for",
        "why do [people|we] [need|use|like] {x}",
        "what makes {x} [special|useful|different]",
        "the meaning of {x}",
        "I [saw|found|met] [the word |]{x} [somewhere|today|], what is [that|it]",
        "introduce me to {x}",
        "is {x} [a thing|something useful|hard to understand]",
        "{x} in [two|a few] sentences",
        "{x} for beginners",
        "break down {x} for me",
        "clarify {x}",
        "what kind of [thing|concept] is {x}",
        "I need a summary of {x}",
        "what happens in {x}",
        "where [is|are] {x} used",
        "what would you say {x} is",
        "the basics of {x}",
        "[they|people|my friends|the news|my teacher] [mention|mentions|recommend|like|study] {x}, what is [it|that|this]",
        "I [must|should|want to] [use|learn|study] {x}, what is it",
        "my [teacher|friend] asked about {x}, can you help",
        "{x}: [what|why|how|definition|meaning]",
        "what [type|sort|class] of [thing|idea|tool] is {x}",
        "when [is|was] {x} used",
        "[purpose|definition|explanation|description|idea] of {x}",
        "what does {x} do",
        "what is inside {x}",
        "{x} please",
        "what is so good about {x}",
        "how would you [define|describe|explain] {x}",
        "how is {x} [used|made|possible]",
    ),
    "es": (
        "qué es {x}",
        "qué son {x}",
        "explica {x}",
        "explica qué es {x}",
        "explícame {x}",
        "explícame qué es {x}",
        "cuéntame sobre {x}",
        "háblame sobre {x}",
        "háblame de {x}",
        "qué sabes de {x}",
        "qué sabes sobre {x}",
        "define {x}",
        "describe {x}",
        "cómo funciona {x}",
        "qué significa {x}",
        "dame una definición de {x}",
        "quiero [saber|aprender] sobre {x}",
        "no entiendo {x}",
        "{x}",
        "{x}, qué es",
        "dime qué es {x}",
        "qué me puedes [decir|contar] sobre {x}",
        "en qué consiste {x}",
        "dame información sobre {x}",
        "ayúdame a entender {x}",
        "a qué se refiere {x}",
        "qué se entiende por {x}",
        "por qué es importante {x}",
        "enséñame sobre {x}",
        "resume {x}",
        "escribe sobre {x}",
        "qué es exactamente {x}",
        "di algo sobre {x}",
        "para qué sirve {x}",
        "explica {x} a un niño",
        "qué debería saber sobre {x}",
        "dime algo de {x}",
        "por qué [la gente usa|usamos|se necesita] {x}",
        "qué hace [especial|útil] a {x}",
        "el significado de {x}",
        "vi la palabra {x}, qué es [eso|]",
        "es [útil|difícil] {x}",
        "{x} en pocas frases",
        "{x} para principiantes",
        "acláreme {x}",
        "qué tipo de cosa es {x}",
        "necesito un resumen de {x}",
        "dónde se usa {x}",
        "lo básico de {x}",
        "cómo [definirías|describirías|explicarías] {x}",
        "en qué se usa {x}",
        "qué quiere decir {x}",
        "qué tiene de bueno {x}",
        "[hablan de|mencionan|me recomiendan|estudian] {x}, qué es [eso|]",
        "tengo que [usar|aprender|estudiar] {x}, qué es",
        "mi profesor preguntó por {x}, me ayudas",
        "{x}: [qué|por qué|cómo|definición|significado]",
        "qué hace {x}",
        "[definición|explicación|descripción|idea|propósito] de {x}",
        "cuándo se usa {x}",
        "{x} por favor",
        "qué hay dentro de {x}",
        "introdúceme en {x}",
        "qué ocurre en {x}",
        "conoces {x}",
        "has oído hablar de {x}",
        "cómo es {x}",
    ),
    "ru": (
        "что такое {x}",
        "{x} — что это",
        "что это такое: {x}",
        "объясни, что такое {x}",
        "расскажи, что такое {x}",
        "объясни {x}",
        "что значит {x}",
        "что означает {x}",
        "дай определение: {x}",
        "поясни, что такое {x}",
        "как работает {x}",
        "{x}",
        "{x}, что это такое",
        "хочу [понять|знать], что такое {x}",
        "как понять, что такое {x}",
        "не понимаю, что такое {x}",
        "что представляет собой {x}",
        "что подразумевается под словом {x}",
        "опиши {x}",
        "зачем нужно знать, что такое {x}",
        "напиши, что такое {x}",
        "для чего нужно {x}",
        "знаешь ли ты, что такое {x}",
        "объясни ребёнку, что такое {x}",
        "что называют словом {x}",
        "кто или что это: {x}",
        "зачем [людям|нам] {x}",
        "чем [полезно|особенно|интересно] {x}",
        "значение слова {x}",
        "{x} для начинающих",
        "увидел слово {x}, что это",
        "{x} в двух предложениях",
        "{x} простыми словами",
        "что за вещь {x}",
        "что это за понятие — {x}",
        "где используется {x}",
        "основы: {x}",
        "как бы ты [определил|объяснил|описал] {x}",
        "в чём смысл {x}",
        "что происходит в {x}",
        "слышал ли ты про {x}",
        "{x} — зачем это нужно",
        "разъясни {x}",
        "[упоминают|советуют|изучают|хвалят] {x}, что это",
        "мне надо [использовать|изучить|понять] {x}, что это такое",
        "учитель спросил про {x}, помоги",
        "{x}: [что|зачем|как|определение|значение]",
        "что делает {x}",
        "{x}, пожалуйста",
        "[определение|объяснение|описание|назначение|идея]: {x}",
        "когда применяют {x}",
        "что внутри {x}",
        "какой смысл в {x}",
        "что ты скажешь про {x}",
        "как понимать {x}",
        "что хорошего в {x}",
        "что понимают под {x}",
    ),
}
ABOUT_RU = (
    "расскажи {p}",
    "что ты знаешь {p}",
    "расскажи мне {p}",
    "хочу узнать {p}",
    "поговорим {p}",
    "напиши {p}",
    "расскажи подробнее {p}",
    "что можешь рассказать {p}",
    "что известно {p}",
    "расскажи коротко {p}",
    "информация {p}",
    "объясни мне {p}",
    "скажи пару слов {p}",
    "что мне нужно знать {p}",
)
COMMAND_FRAMES = {
    "en": (
        "what does {x} do",
        "what is {x} for",
        "what is {x}",
        "how do I use {x}",
        "explain {x}",
        "tell me about {x}",
        "when do I use {x}",
        "what is the use of {x}",
        "what happens with {x}",
        "{x}",
        "how does {x} work",
        "help with {x}",
        "what can I do with {x}",
        "describe {x}",
        "what is the purpose of {x}",
        "meaning of {x}",
        "why use {x}",
        "[usage|example] of {x}",
        "what do I need {x} for",
    ),
    "es": (
        "qué hace {x}",
        "para qué sirve {x}",
        "qué es {x}",
        "cómo [uso|se usa] {x}",
        "explica {x}",
        "dime qué es {x}",
        "cómo funciona {x}",
        "cuándo se usa {x}",
        "qué puedo hacer con {x}",
        "ayuda con {x}",
        "cuéntame sobre {x}",
        "para qué es {x}",
        "explícame {x}",
        "ejemplo de {x}",
        "qué significa {x}",
    ),
    "ru": (
        "что делает {x}",
        "для чего {x}",
        "зачем нужен {x}",
        "зачем {x}",
        "что такое {x}",
        "как использовать {x}",
        "как пользоваться {x}",
        "объясни {x}",
        "как работает {x}",
        "расскажи про {x}",
        "пример {x}",
        "когда нужен {x}",
        "что значит {x}",
        "помощь по {x}",
        "для чего нужна команда {x}",
    ),
}


ABOUT_FRAMES = {
    "en": (
        "{x}",
        "[the|which|what] command for {x}",
        "which command is for {x}",
        "{x}: how",
        "help me with {x}",
        "what about {x}",
        "I have a question about {x}",
        "what was the command for {x} [again|]",
        "tell me about {x}",
        "is {x} possible",
        "instructions for {x}",
        "{x}, what do I [do|type|enter]",
        "I need {x}",
        "I want {x}",
        "explain {x}",
        "how does {x} work",
        "what do I need for {x}",
        "I am stuck with {x}",
        "what do you know about {x}",
        "and {x}",
        "I am interested in {x}",
        "where do I find {x}",
        "which is the way to {x}",
        "give me a hint about {x}",
        "my problem is {x}",
        "let's talk about {x}",
    ),
    "es": (
        "{x}",
        "[el comando|la orden] para {x}",
        "qué [comando|orden] es para {x}",
        "{x}: cómo",
        "ayúdame con {x}",
        "y {x}",
        "tengo una pregunta sobre {x}",
        "cuál era el comando para {x}",
        "háblame sobre {x}",
        "es posible {x}",
        "instrucciones para {x}",
        "{x}, qué [hago|escribo|tecleo]",
        "necesito {x}",
        "quiero {x}",
        "explica {x}",
        "cómo funciona {x}",
        "qué hace falta para {x}",
        "me atasqué con {x}",
        "qué sabes sobre {x}",
        "qué hay de {x}",
        "me interesa {x}",
        "dónde encuentro {x}",
        "mi problema es {x}",
    ),
    "ru": (
        "{x}",
        "команда: {x}",
        "какая команда: {x}",
        "{x}: как",
        "помоги, {x}",
        "что насчёт этого: {x}",
        "вопрос: {x}",
        "какая была команда: {x}",
        "расскажи: {x}",
        "возможно ли это: {x}",
        "инструкция: {x}",
        "{x}, что [делать|вводить|набирать]",
        "нужно: {x}",
        "мне нужно вот что: {x}",
        "объясни: {x}",
        "как работает {x}",
        "что нужно для этого: {x}",
        "застрял: {x}",
        "интересует {x}",
        "меня интересует {x}",
        "где найти: {x}",
        "моя проблема — {x}",
        "как устроено: {x}",
        "хочу понять: {x}",
    ),
}


@dataclass
class Topic:
    """What can be asked about one thing, and the answers, by language."""

    name: str
    weight: float = 1.0
    nouns: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    about: list[str] = field(default_factory=list)
    themes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    commands: list[str] = field(default_factory=list)
    questions: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def question(self, lang: str, rng: random.Random) -> str:
        """One plain question, not yet roughened."""
        ways: list[str] = []
        if self.questions[lang]:
            ways += ["own"] * 3
        if self.nouns[lang]:
            ways += ["noun"] * 3
        if self.commands:
            ways += ["command"] * (2 if ways else 1)
        if lang == "ru" and self.about:
            ways += ["about"]
        if self.themes[lang]:
            ways += ["theme"] * 2
        way = rng.choice(ways)
        if way == "own":
            return expand(rng.choice(self.questions[lang]), rng, RULES[lang])
        if way == "about":
            return expand(rng.choice(ABOUT_RU), rng).replace("{p}", rng.choice(self.about))
        if way == "theme":
            return expand(rng.choice(ABOUT_FRAMES[lang]), rng).replace("{x}", rng.choice(self.themes[lang]))
        if way == "noun":
            return fill_frame(lang, rng.choice(self.nouns[lang]), rng)
        command = rng.choice(self.commands)
        if " " in command or command.startswith(("/", "-")):
            shown = f"`{command}`" if rng.random() < 0.15 else command
        else:
            shown = rng.choice(COMMAND_NOUN[lang]).replace("{x}", command)
        return expand(rng.choice(COMMAND_FRAMES[lang]), rng).replace("{x}", shown)

    def answer(self, lang: str, rng: random.Random) -> str:
        return rng.choice(self.answers[lang])


COMMAND_NOUN = {
    "en": ("{x}", "the {x} command", "{x} in LocalModels", "the {x} option", "localmodels {x}"),
    "es": ("{x}", "el comando {x}", "{x} en LocalModels", "la opción {x}", "localmodels {x}"),
    "ru": ("{x}", "команда {x}", "{x} в LocalModels", "параметр {x}", "localmodels {x}"),
}


def fill_frame(lang: str, noun: str, rng: random.Random) -> str:
    """Puts a noun phrase into a shared frame, with Spanish "de el" contracted.

    A bare "Python" shows no language, so outside English it never stands alone.
    """
    frame = rng.choice(FRAMES[lang])
    while frame == "{x}" and lang != "en" and noun.isascii():
        frame = rng.choice(FRAMES[lang])
    text = expand(frame, rng).replace("{x}", noun)
    return text.replace(" de el ", " del ").replace(" a el ", " al ") if lang == "es" else text


def _read_rules() -> dict[str, dict[str, str]]:
    rules: dict[str, dict[str, str]] = {lang: {} for lang in LANGS}
    for line in (_FOLDER / "rules.txt").read_text(encoding="utf-8").splitlines():
        name, lang, body = line.split(" ", 2)
        rules[lang][name] = body
    return rules


def _read_topics(path: Path) -> list[Topic]:
    topics: list[Topic] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        key, rest = line.split(" ", 1)
        if key == "@":
            name, *weight = rest.split()
            topics.append(Topic(name, float(weight[0]) if weight else 1.0))
            continue
        if key == "c":
            topics[-1].commands += rest.split("|")
            continue
        lang, text = rest.split(" ", 1)
        if lang not in LANGS or key not in ("n", "p", "q", "a", "k"):
            raise ValueError(f"{path.name}:{number}: not a topic line: {line!r}")
        if key == "n":
            topics[-1].nouns[lang] += text.split("|")
        elif key == "k":
            topics[-1].themes[lang] += text.split("|")
        elif key == "p":
            topics[-1].about += text.split("|")
        elif key == "q":
            topics[-1].questions[lang].append(text)
        else:
            topics[-1].answers[lang].append(text.replace("\\n", "\n"))
    return topics


def _read_examples() -> list[tuple[str, Topic, str]]:
    by_name = {topic.name: topic for topic in KNOWLEDGE + LOCALMODELS + CHAT}
    rows = (line.split(" ", 2) for line in (_FOLDER / "examples.txt").read_text(encoding="utf-8").splitlines())
    return [(lang, by_name[name], question) for lang, name, question in rows]


RULES = _read_rules()
KNOWLEDGE = _read_topics(_FOLDER / "knowledge.txt")
LOCALMODELS = _read_topics(_FOLDER / "localmodels.txt")
CHAT = _read_topics(_FOLDER / "chat.txt")
EXAMPLES = _read_examples()
"""Language, topic and question, word for word: the first things people and manuals ask."""
