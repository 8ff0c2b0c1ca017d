# ruff: noqa: E501
"""Reads ``topics/*.txt`` and asks about them in many ways. The file format is in ``topics/README.md``."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
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
        "could you please explain what {x} is",
        "my [daughter|boss|neighbour|student] does not know what {x} is",
        "[for|in] my homework: {x}",
        "how [do|would] you explain {x} to [a beginner|my grandmother|a friend]",
        "[never heard|I have never heard] of {x}, what is it",
        "in plain [words|language]: {x}",
        "I am [writing|preparing] a [talk|text|page] about {x}",
        "what do [experts|people|engineers|you] mean by {x}",
        "what's the [point|essence|gist|use|role] of {x}",
        "{x} — [never heard of it|what is it|explain|and what is that]",
        "can you give me an [example|idea|explanation] of {x}",
        "is there a simple explanation of {x}",
        "please [describe|define|explain] {x} [briefly|in one sentence|]",
        "a question on {x}: what is it",
        "so, {x}. What is it",
        "I don't know the first thing about {x}",
        "the word is {x}. What does it mean",
        "[quick|short|simple|easy] explanation of {x}",
        "would you mind explaining {x}",
        "do you [happen to|] know what {x} is",
        "I am not sure what {x} is",
        "I [read|heard] about {x} but [still|] do not understand it",
        "isn't {x} something [complicated|technical|everybody knows]",
        "what goes on in {x}",
        "what would we do without {x}",
        "who needs {x} [and what for|]",
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
        "[podría|podrías] [explicarme|decirme] qué es {x}",
        "mi [hija|jefe|vecino|alumno] no sabe qué es {x}",
        "para mis deberes: {x}",
        "cómo [le explico|explicas|explicaría usted] {x} a [un principiante|mi abuela|un amigo]",
        "nunca [oí|he oído] hablar de {x}, qué es",
        "en palabras [sencillas|simples]: {x}",
        "[escribo|preparo] [una charla|un texto] sobre {x}",
        "qué [entienden los expertos|se quiere decir] por {x}",
        "cuál es [la esencia|la utilidad|el papel|el sentido] de {x}",
        "{x} — [nunca lo oí|qué es|explica|y eso qué es]",
        "[me das|dame] un ejemplo de {x}",
        "hay una explicación sencilla de {x}",
        "por favor [describe|define|explica] {x} [brevemente|en una frase|]",
        "una pregunta sobre {x}: qué es",
        "a ver, {x}. Qué es",
        "no sé nada de {x}",
        "la palabra es {x}. Qué significa",
        "explicación [rápida|corta|fácil] de {x}",
        "no [sé|tengo claro] qué es {x}",
        "leí sobre {x} pero no lo entiendo",
        "qué haríamos sin {x}",
        "quién necesita {x} [y para qué|]",
        "explíqueme [usted|] {x}",
        "qué pasa en {x}",
        "de qué va {x}",
        "sabe usted qué es {x}",
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
        "что ты скажешь про {x}",
        "как понимать {x}",
        "что хорошего в {x}",
        "что понимают под {x}",
        "[вы могли бы|не могли бы вы] объяснить, что такое {x}",
        "[дочка|начальник|сосед|ученик] не знает, что такое {x}",
        "для домашнего задания: {x}",
        "как объяснить [новичку|бабушке|другу], что такое {x}",
        "[никогда не слышал|впервые слышу], что такое {x}",
        "понятным языком: {x}",
        "[пишу|готовлю] [доклад|текст]: {x}",
        "все говорят «{x}», а что это",
        "{x} — [впервые слышу|объясни|и что это такое|расскажи]",
        "{x}: приведи пример",
        "есть ли простое объяснение, что такое {x}",
        "[коротко|одним предложением]: {x}",
        "ну хорошо, {x}. Что это",
        "слово {x}. Что оно значит",
        "не уверен, что понимаю, что такое {x}",
        "читал, что есть {x}, но не понял",
        "кому и зачем [нужно|нужна|нужен] {x}",
        "объясните, пожалуйста, {x}",
        "вы знаете, что такое {x}",
        "что значат слова «{x}»",
        "хочу разобраться, что такое {x}",
        "что скрывается за словом {x}",
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
    "расскажите, пожалуйста, {p}",
    "хотелось бы узнать больше {p}",
    "ничего не знаю {p}",
    "что бы ты рассказал ребёнку {p}",
    "мне надо сделать доклад {p}",
    "слышал кое-что {p}, что это",
    "прочитал статью {p} и не понял",
    "вопрос {p}",
    "что говорят {p}",
)
THING_RU = (
    "объясни мне {x}",
    "не понимаю {x}",
    "хочу понять {x}",
    "как бы ты объяснил {x} другу",
    "опиши {x} простыми словами",
    "помоги понять {x}",
    "учу {x} и не понимаю",
    "[прошу|можно] объяснить {x}",
    "[растолкуй|разъясни|поясни] {x} [на примере|]",
    "как понимать {x}",
    "нам задали {x}, помоги",
)
"""Russian frames for the accusative, which follows "про" in the topic's ``p`` lines."""
OF_RU = (
    "что находится внутри {x}",
    "в чём [суть|смысл|идея|польза] {x}",
    "каков принцип {x}",
    "дай [определение|описание|пример] {x}",
    "объясни [суть|смысл|устройство] {x}",
    "расскажи об основах {x}",
    "[простое|короткое] [объяснение|описание] {x}",
    "какова роль {x}",
    "для доклада нужно [описание|определение] {x}",
    "каково назначение {x}",
    "какая польза от {x}",
    "что бы мы делали без {x}",
    "как объяснить смысл {x}",
)
"""Russian frames for the genitive, the ``r`` lines of the topics."""
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
        "I saw {x} [in a script|in the manual|somewhere], what is it",
        "[when|why] would I [need|want|call] {x}",
        "what is {x} good for",
        "{x}, what's that for",
        "can you explain what {x} does",
        "I don't understand {x}",
        "what do I get from {x}",
        "could you show me how to use {x}",
        "what exactly does {x} do",
        "is {x} what I need",
        "what would happen if I [used|typed|called] {x}",
        "{x}: what does it do",
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
        "vi {x} [en un script|en el manual|], qué es",
        "[cuándo|por qué] [necesitaría|usaría] {x}",
        "{x}, y eso para qué es",
        "[podrías|puede] explicarme qué hace {x}",
        "no entiendo {x}",
        "qué obtengo con {x}",
        "enséñame a usar {x}",
        "qué hace exactamente {x}",
        "qué pasa si uso {x}",
        "{x}: qué hace",
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
        "увидел {x} [в скрипте|в документации|], что это",
        "{x}, и для чего это",
        "можете объяснить, что делает {x}",
        "не понимаю {x}",
        "что я получу с {x}",
        "что именно делает {x}",
        "что будет, если [вызвать|набрать|использовать] {x}",
        "{x}: что делает",
        "когда пригодится {x}",
        "покажите, как применять {x}",
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
        "can you help me with {x}",
        "[it is|this is] about {x}",
        "{x}? [Which command|How|Where]",
        "what should I know about {x}",
        "[could|would] you explain {x} [to me|]",
        "{x} — how does that work",
        "I am looking for {x}",
        "my question is about {x}",
        "where does the manual describe {x}",
        "any hints on {x}",
        "what's the story with {x}",
        "is there anything for {x}",
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
        "me puedes ayudar con {x}",
        "se trata de {x}",
        "{x}? [Qué comando|Cómo|Dónde]",
        "qué debería saber sobre {x}",
        "[podrías|puede] explicarme {x}",
        "{x} — cómo funciona eso",
        "busco {x}",
        "mi pregunta es sobre {x}",
        "alguna pista sobre {x}",
        "hay algo para {x}",
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
        "можете помочь: {x}",
        "речь вот о чём: {x}",
        "{x}? [Какая команда|Как|Где]",
        "что надо знать: {x}",
        "объясните, пожалуйста: {x}",
        "{x} — как это работает",
        "ищу: {x}",
        "мой вопрос — {x}",
        "есть что-нибудь для этого: {x}",
        "подскажите: {x}",
    ),
}

GOAL_FRAMES = {
    "en": (
        "how [do|can|could|would|should|might] I {x}",
        "how [do you|do we|does one|can one] {x}",
        "to {x}, what [do I|must I|should I] [type|do|run|call|set]",
        "if I wanted to {x}, [which command would it be|what would I do|how would I do it]",
        "I'd [like|love] to {x}[, is that possible|, how|]",
        "{x}: [which command|how|what do I type]",
        "I [never managed|have tried in vain|failed] to {x}",
        "[they|people|you] told me I can {x} here, [how|but how]",
        "my [boss|colleague|friend] wants me to {x}[, what do I do|, how|]",
        "what's the [right|quickest|easiest|best|usual] way to {x}",
        "{x} — [how|is that possible|can I]",
        "is there [something|a command|an option|a route|a trick] to {x}",
        "I read that one can {x}, but not how",
        "all I want is to {x}",
        "can't I [just|simply|] {x}",
        "shouldn't it be possible to {x}",
        "isn't there a way to {x}",
        "I'd rather {x}, [can I|how|is that possible]",
        "where do I [begin|start|look] if I want to {x}",
        "which [option|command|setting] [lets me|do I need to|is there to] {x}",
        "I need to {x}[, quickly|, help|, what now|]",
        "say I want to {x}, what then",
        "it would be [nice|good|useful] to {x}",
        "let me {x}",
        "I have been asked to {x}. [What now|How]",
        "I want to {x}. [Where do I start|What do I type|How]",
        "[is it|would it be] [hard|possible|easy] to {x}",
        "[tell|show|teach] me [please|] how to {x}",
        "{x}, please",
        "I can [do a lot|chat], but I don't know how to {x}",
        "what [has to be done|do people do|would you do] to {x}",
        "do you know how to {x}",
        "I've got to {x} [today|tomorrow|soon]",
        "my aim: {x}",
        "I wish I could {x}",
        "I have no idea how to {x}",
    ),
    "es": (
        "cómo [hago para|puedo|podría|debo|se puede|consigo] {x}",
        "para {x}, qué [escribo|hago|ejecuto|pongo|uso]",
        "si quisiera {x}, [qué comando sería|qué haría|cómo lo haría]",
        "me [gustaría|encantaría] {x}[, es posible|, cómo|]",
        "{x}: [qué comando|cómo|qué escribo]",
        "[nunca conseguí|no consigo|intenté en vano] {x}",
        "me [dijeron|contaron] que aquí se puede {x}, [cómo|pero cómo]",
        "mi [jefe|colega|amiga] quiere {x}[, qué hago|, cómo|]",
        "cuál es la [mejor manera|forma más rápida|forma correcta|manera más fácil] de {x}",
        "{x} — [cómo|es posible|se puede]",
        "hay [algo|un comando|una opción|una ruta|un truco] para {x}",
        "leí que se puede {x}, pero no cómo",
        "[solo|lo único que] quiero {x}",
        "no puedo [simplemente|] {x}",
        "no debería ser posible {x}",
        "no hay [manera|forma] de {x}",
        "[preferiría|prefiero] {x}, [se puede|cómo]",
        "por dónde [empiezo|comienzo] si quiero {x}",
        "qué [opción|comando|ajuste] [permite|sirve para|necesito para] {x}",
        "[necesito|tengo que] {x}[, rápido|, ayuda|, y ahora|]",
        "supongamos que quiero {x}, entonces qué",
        "[estaría bien|sería útil|sería bueno] {x}",
        "[déjame|permíteme] {x}",
        "me han pedido {x}. [Qué hago|Cómo]",
        "quiero {x}. [Por dónde empiezo|Qué escribo|Cómo]",
        "[es|será] [difícil|posible|fácil] {x}",
        "[dime|enséñame|muéstreme|indíqueme] [por favor|] cómo {x}",
        "{x}, por favor",
        "qué hay que hacer para {x}",
        "[sabes|sabe usted] cómo {x}",
        "debo {x} [hoy|mañana|pronto]",
        "mi objetivo: {x}",
        "ojalá pudiera {x}",
        "no tengo ni idea de cómo {x}",
        "cómo haría usted para {x}",
        "quisiera {x}[, me ayuda|, me ayudas|]",
    ),
    "ru": (
        "как [мне|можно|нам|вообще|лучше|правильно] {x}",
        "чтобы {x}, что [набрать|сделать|вызвать|указать|написать]",
        "если я захочу {x}, [какая это команда|что делать|как быть]",
        "мне [бы|хотелось бы] {x}[, это возможно|, как|]",
        "{x}: [какая команда|как|что набрать]",
        "[никак не могу|не удаётся|не получается|безуспешно пытаюсь] {x}",
        "мне [сказали|говорили], что тут можно {x}, [как|но как]",
        "[начальник|коллега|друг] просит {x}[, что делать|, как|]",
        "какой [самый быстрый|лучший|правильный|простой] способ {x}",
        "{x} — [как|это возможно|можно]",
        "есть ли [команда|опция|маршрут|способ|возможность] {x}",
        "читал, что можно {x}, но не понял как",
        "[я просто хочу|всё, чего я хочу, —] {x}",
        "разве нельзя [просто|] {x}",
        "неужели нельзя {x}",
        "нет ли способа {x}",
        "я бы предпочёл {x}, [можно|как]",
        "с чего начать, если хочу {x}",
        "какая [опция|команда|настройка] [позволяет|поможет|даёт] {x}",
        "[нужно|надо] {x}[, срочно|, помогите|, и что теперь|]",
        "допустим, я хочу {x}, что тогда",
        "[было бы хорошо|неплохо бы|полезно было бы] {x}",
        "[дай|позволь|помоги|помогите] [мне|] {x}",
        "меня попросили {x}. [Что делать|Как]",
        "хочу {x}. [С чего начать|Что набрать|Как]",
        "[сложно|трудно|легко|возможно] ли {x}",
        "[скажите|покажите|научи|подскажите], [пожалуйста,|] как {x}",
        "{x}, пожалуйста",
        "что [нужно|требуется|надо сделать], чтобы {x}",
        "[ты знаешь|вы знаете|не знаешь], как {x}",
        "мне [сегодня|завтра|скоро] {x}",
        "моя цель: {x}",
        "вот бы {x}",
        "понятия не имею, как {x}",
        "как бы вы посоветовали {x}",
        "собираюсь {x}[, подскажи|, с чего начать|]",
    ),
}
"""Frames for what somebody wants to do, an infinitive (the topics' ``g`` lines)."""
WISH_FRAMES = {
    "es": (
        "[quiero|necesito|me gustaría|quisiera|preferiría|deseo] {x}",
        "[quiero|me gustaría] {x}, [cómo|es posible|qué hago|qué pongo]",
        "cómo [hago para|consigo|logro] {x}",
        "para {x}, qué [hago|pongo|escribo]",
        "es posible {x}",
        "se puede [lograr|hacer] {x}",
        "qué [hay que hacer|hace falta|se pone] para {x}",
        "mi [jefe|equipo] quiere {x}",
    ),
    "ru": (
        "[хочу|нужно|надо|хотелось бы|мне нужно|желательно], {x}",
        "[хочу|нужно], {x}, [как|это возможно|что делать|что указать]",
        "как [сделать так|добиться того|сделать], {x}",
        "{x}, что [набрать|сделать|указать]",
        "можно ли сделать так, {x}",
        "что [нужно|надо] сделать, {x}",
        "мне бы хотелось, {x}",
        "[начальник|коллега] просит, {x}",
    ),
}
"""Frames for a goal that begins with "que" or "чтобы"."""
SITUATION_FRAMES = {
    "en": (
        "{x}",
        "{x}",
        "{x}, what now",
        "{x}. What [can|do|should] I do",
        "help, {x}",
        "{x}, [any advice|any idea|what would you do|what do you suggest]",
        "what [do|can] I do when {x}",
        "{x}, how do I [deal with|change|solve] [that|this|it]",
        "{x}, is there something for that",
        "the thing is, {x}",
        "{x}. How [do I|can I] [solve|change|handle] this",
        "I have a problem: {x}",
        "{x} and I don't know what to do",
        "{x}, which command [helps|do I need]",
        "my situation: {x}",
        "{x}, and now",
    ),
    "es": (
        "{x}",
        "{x}",
        "{x}, y ahora qué",
        "{x}. Qué [puedo|debo] hacer",
        "ayuda, {x}",
        "{x}, [algún consejo|alguna idea|qué harías|qué me sugiere]",
        "qué hago si {x}",
        "{x}, cómo lo [soluciono|cambio|resuelvo]",
        "{x}, hay algo para eso",
        "el caso es que {x}",
        "{x}. Cómo se [soluciona|cambia|resuelve]",
        "tengo un problema: {x}",
        "{x} y no sé qué hacer",
        "{x}, qué comando [ayuda|necesito]",
        "mi situación: {x}",
        "resulta que {x}",
    ),
    "ru": (
        "{x}",
        "{x}",
        "{x}, что теперь",
        "{x}. Что [делать|мне делать]",
        "помогите, {x}",
        "{x}, [есть идеи|что посоветуешь|что посоветуете|как быть]",
        "что делать, если {x}",
        "{x}, как это [исправить|изменить|решить]",
        "{x}, есть ли что-то для этого",
        "дело в том, что {x}",
        "{x}. Как с этим [быть|справиться]",
        "у меня проблема: {x}",
        "{x}, и я не знаю, что делать",
        "{x}, какая команда [поможет|нужна]",
        "ситуация такая: {x}",
        "получилось так, что {x}",
    ),
}
"""Frames for a need told as a story, a whole clause (the topics' ``s`` lines)."""


@dataclass
class Topic:
    """What can be asked about one thing, and the answers, by language."""

    name: str
    weight: float = 1.0
    exclaims: bool = False
    """It is said rather than asked: greetings, thanks, moods."""
    nouns: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    about: list[str] = field(default_factory=list)
    genitives: list[str] = field(default_factory=list)
    themes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    goals: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    situations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    commands: list[str] = field(default_factory=list)
    questions: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def question(self, lang: str, rng: random.Random) -> str:
        """One plain question, not yet roughened."""
        return _ASK[rng.choice(self._ways(lang))](self, lang, rng)

    def _ways(self, lang: str) -> list[str]:
        """The ways this can be asked, each as often as it is to be drawn."""
        ways = ["own"] * 3 * bool(self.questions[lang])
        ways += ["goal"] * 3 * bool(self.goals[lang])
        ways += ["noun"] * 3 * bool(self.nouns[lang])
        ways += ["situation"] * bool(self.situations[lang])
        ways += ["command"] * (2 if ways else 1) * bool(self.commands)
        ways += ["theme"] * 2 * bool(self.themes[lang])
        if lang == "ru":
            ways += ["about"] * bool(self.about) + ["thing"] * bool(self.about) + ["of"] * bool(self.genitives)
        return ways

    def answer(self, lang: str, rng: random.Random) -> str:
        return rng.choice(self.answers[lang])


def _own(topic: Topic, lang: str, rng: random.Random) -> str:
    return expand(rng.choice(topic.questions[lang]), rng, RULES[lang])


def _goal(topic: Topic, lang: str, rng: random.Random) -> str:
    goal = expand(rng.choice(topic.goals[lang]), rng)
    frames = WISH_FRAMES if goal.startswith(("que ", "чтобы ")) else GOAL_FRAMES
    return expand(rng.choice(frames[lang]), rng).replace("{x}", goal)


def _situation(topic: Topic, lang: str, rng: random.Random) -> str:
    situation = expand(rng.choice(topic.situations[lang]), rng)
    return expand(rng.choice(SITUATION_FRAMES[lang]), rng).replace("{x}", situation)


def _noun(topic: Topic, lang: str, rng: random.Random) -> str:
    return fill_frame(lang, rng.choice(topic.nouns[lang]), rng)


def _theme(topic: Topic, lang: str, rng: random.Random) -> str:
    return contract(expand(rng.choice(ABOUT_FRAMES[lang]), rng).replace("{x}", rng.choice(topic.themes[lang])), lang)


def _about(topic: Topic, _: str, rng: random.Random) -> str:
    return expand(rng.choice(ABOUT_RU), rng).replace("{p}", rng.choice(topic.about))


def _thing(topic: Topic, _: str, rng: random.Random) -> str:
    things = [about.removeprefix("про ") for about in topic.about if about.startswith("про ")]
    return expand(rng.choice(THING_RU), rng).replace("{x}", rng.choice(things))


def _of(topic: Topic, _: str, rng: random.Random) -> str:
    return expand(rng.choice(OF_RU), rng).replace("{x}", rng.choice(topic.genitives))


def _command(topic: Topic, lang: str, rng: random.Random) -> str:
    command = rng.choice(topic.commands)
    if " " in command or command.startswith(("/", "-")):
        shown = f"`{command}`" if rng.random() < 0.15 else command
    else:
        shown = rng.choice(COMMAND_NOUN[lang]).replace("{x}", command)
    return expand(rng.choice(COMMAND_FRAMES[lang]), rng).replace("{x}", shown)


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
    return contract(text, lang)


def contract(text: str, lang: str) -> str:
    """Spanish "de el" and "a el" become one word, unless the article belongs to a name."""
    return text.replace(" de el ", " del ").replace(" a el ", " al ") if lang == "es" else text


_ASK: dict[str, Callable[[Topic, str, random.Random], str]] = {
    "own": _own,
    "goal": _goal,
    "situation": _situation,
    "noun": _noun,
    "theme": _theme,
    "command": _command,
    "about": _about,
    "thing": _thing,
    "of": _of,
}


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
            name, *more = rest.split()
            weight = next((float(word) for word in more if word != "!"), 1.0)
            topics.append(Topic(name, weight, exclaims="!" in more))
            continue
        topic = topics[-1]
        if key == "c":
            topic.commands += rest.split("|")
            continue
        lang, text = rest.split(" ", 1)
        if lang not in LANGS or key not in "npqakgsr":
            raise ValueError(f"{path.name}:{number}: not a topic line: {line!r}")
        if key == "p":
            topic.about += text.split("|")
        elif key == "r":
            topic.genitives += text.split("|")
        elif key in "nk":
            (topic.nouns if key == "n" else topic.themes)[lang] += text.split("|")
        elif key == "a":
            topic.answers[lang].append(text.replace("\\n", "\n"))
        else:
            {"q": topic.questions, "g": topic.goals, "s": topic.situations}[key][lang].append(text)
    return topics


def _read_examples() -> list[tuple[str, Topic, str]]:
    by_name = {topic.name: topic for topic in KNOWLEDGE + LOCALMODELS + CHAT}
    rows = (line.split(" ", 2) for line in (_FOLDER / "examples.txt").read_text(encoding="utf-8").splitlines())
    return [(lang, by_name[name], question) for lang, name, question in rows]


RULES = _read_rules()
KNOWLEDGE = _read_topics(_FOLDER / "knowledge.txt")
LOCALMODELS = _read_topics(_FOLDER / "localmodels.txt")
CHAT = _read_topics(_FOLDER / "chat.txt")
(UNKNOWN,) = _read_topics(_FOLDER / "unknown.txt")
"""What the model has no answer for; {x}, {y}, {n}, {m}, {k} and {c} are slots for things, numbers and a country."""
EXAMPLES = _read_examples()
"""Language, topic and question, word for word: the first things people and manuals ask."""
