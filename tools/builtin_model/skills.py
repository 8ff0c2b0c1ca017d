# ruff: noqa: E501
"""Small things the model can do rather than recite: count, add, copy a name, name a capital, tell a story.

Each skill is a function from a language and a generator to a question and its answer; ``SKILLS`` is the table of them
with their weights.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TypeAlias

from . import names
from .grammar import expand, roughen
from .topics import CHAT, KNOWLEDGE, LANGS, LOCALMODELS, UNKNOWN, contract

Pair: TypeAlias = tuple[str, str]
Skill: TypeAlias = Callable[[str, random.Random], Pair]

NUMBERS = {
    "en": [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ],
    "es": [
        "cero",
        "uno",
        "dos",
        "tres",
        "cuatro",
        "cinco",
        "seis",
        "siete",
        "ocho",
        "nueve",
        "diez",
        "once",
        "doce",
        "trece",
        "catorce",
        "quince",
        "dieciséis",
        "diecisiete",
        "dieciocho",
        "diecinueve",
        "veinte",
    ],
    "ru": [
        "ноль",
        "один",
        "два",
        "три",
        "четыре",
        "пять",
        "шесть",
        "семь",
        "восемь",
        "девять",
        "десять",
        "одиннадцать",
        "двенадцать",
        "тринадцать",
        "четырнадцать",
        "пятнадцать",
        "шестнадцать",
        "семнадцать",
        "восемнадцать",
        "девятнадцать",
        "двадцать",
    ],
}
_GENITIVE_RU = [
    "нуля",
    "одного",
    "двух",
    "трёх",
    "четырёх",
    "пяти",
    "шести",
    "семи",
    "восьми",
    "девяти",
    "десяти",
    "одиннадцати",
    "двенадцати",
    "тринадцати",
    "четырнадцати",
    "пятнадцати",
    "шестнадцати",
    "семнадцати",
    "восемнадцати",
    "девятнадцати",
    "двадцати",
]
_COUNT = {
    "en": "[count|can you count|please count|I want you to count|now count|start counting|count for me] [up |]to {b}|"
    "count [up |]from {a} to {b}|count from {a} up to {b}|[list|write|give me|say] the numbers from {a} to {b}|"
    "count [slowly|quickly|loudly|again|with me|once] to {b}|I would like you to count [from {a} |]to {b}|my [daughter|teacher] wants to hear the numbers from {a} to {b}|let us count from {a} to {b}|[say|write|list|print] [the |]numbers [up |]to {b}|numbers {a} to {b}|count {a} to {b}|count until {b}|[could|would] you count [from {a} |]to {b}|[show|teach] me how to count to {b}|which numbers come from {a} to {b}|I [want|like] to hear you count to {b}|all numbers from {a} to {b}",
    "es": "[cuenta|puedes contar|cuenta por favor|quiero que cuentes|ahora cuenta|empieza a contar] hasta {b}|"
    "cuenta [de|desde] {a} [a|hasta] {b}|[di|escribe|dime|dame] los números [del|de|desde] {a} [al|a|hasta] {b}|"
    "cuenta [despacio|rápido|en voz alta|otra vez|conmigo] hasta {b}|quisiera que contaras [de {a} a|hasta] {b}|mi hija quiere oír los números del {a} al {b}|contemos de {a} a {b}|[di|escribe] los números hasta {b}|contar hasta {b}|números del {a} al {b}|[podrías|puede usted] contar hasta {b}|enséñame a contar hasta {b}|quiero oírte contar hasta {b}|todos los números del {a} al {b}|qué números hay del {a} al {b}",
    "ru": "[посчитай|сосчитай|считай|досчитай|можешь посчитать|посчитай, пожалуйста,|начни считать] до {b}|"
    "[посчитай|считай|сосчитай] от {a} до {b}|[назови|напиши|перечисли|скажи] числа от {a} до {b}|числа от {a} до {b}|"
    "[посчитай|считай|сосчитай] [медленно|быстро|громко|ещё раз|со мной] до {b}|дочка хочет услышать числа от {a} до {b}|давай посчитаем [от {a} |]до {b}|[назови|напиши] числа до {b}|[можете|не мог бы ты] посчитать до {b}|научи меня считать до {b}|хочу услышать счёт до {b}|все числа от {a} до {b}|какие числа от {a} до {b}",
}
_BACK = {
    "en": "count [down|backwards|back] from {b} [to {a}|]|count [down|backwards] to {a} from {b}|countdown from {b}|"
    "[give me|start] a countdown from {b}",
    "es": "cuenta [hacia atrás|al revés] desde {b}|cuenta atrás desde {b}|cuenta regresiva desde {b}|"
    "cuenta de {b} a {a}",
    "ru": "[посчитай|считай] [назад|обратно|в обратном порядке] от {b}|обратный отсчёт от {b}|посчитай от {b} до {a}",
}


def counting(lang: str, rng: random.Random) -> Pair:
    """“Count to 5”, from and to, and backwards."""
    low = 1
    high = rng.choices((5, 10, 3, rng.randint(2, 20), rng.randint(2, 30)), (20, 14, 8, 45, 13))[0]
    pattern, backwards = _COUNT[lang], False
    if rng.random() < 0.2:
        pattern, backwards = _BACK[lang], True
        high = min(high, 20)
    text = expand(pattern, rng)
    if "{a}" in text and not backwards and rng.random() < 0.6:
        low = rng.randint(0, max(0, high - 1))
    spell = high <= 20 and low <= 20 and rng.random() < 0.25
    words = _GENITIVE_RU if lang == "ru" else NUMBERS[lang]
    text = text.replace("{a}", words[low] if spell else str(low)).replace("{b}", words[high] if spell else str(high))
    run = range(low, high + 1)
    order = reversed(run) if backwards else run
    return roughen(text, lang, rng), ", ".join(map(str, order)) + "."


_SUMS = {
    "+": {
        "en": "[what is|what's|how much is|calculate|compute|add|solve|what does|how many is|the result of|can you add|] {a} [+|plus] {b}|{a}+{b}|{a} + {b} =|"
        "the sum of {a} and {b}|add {a} and {b}|if I have {a} apples and get {b} more, how many do I have",
        "es": "[cuánto es|cuánto son|calcula|suma|resuelve|qué resultado da|puedes sumar|] {a} [+|más] {b}|{a}+{b}|{a} + {b} =|la suma de {a} y {b}|"
        "suma {a} y {b}|si tengo {a} manzanas y me dan {b} más, cuántas tengo",
        "ru": "[сколько будет|посчитай|вычисли|сложи|реши|чему равно|какой результат|можешь сложить|] {a} [+|плюс] {b}|{a}+{b}|{a} + {b} =|"
        "сумма {a} и {b}|сложи {a} и {b}|у меня было {a} яблок и дали ещё {b}, сколько стало",
    },
    "-": {
        "en": "[what is|what's|how much is|calculate|compute|] {a} [-|minus] {b}|{a}-{b}|{a} - {b} =|subtract {b} from {a}",
        "es": "[cuánto es|cuánto son|calcula|] {a} [-|menos] {b}|{a}-{b}|{a} - {b} =|resta {b} de {a}",
        "ru": "[сколько будет|посчитай|вычисли|чему равно|] {a} [-|минус] {b}|{a}-{b}|{a} - {b} =|вычти {b} из {a}",
    },
    "×": {
        "en": "[what is|what's|how much is|calculate|compute|what does|the result of|] {a} [*|x|times|multiplied by|×] {b}|{a}*{b}|{a} * {b} =|"
        "multiply {a} [by|and] {b}|the product of {a} and {b}",
        "es": "[cuánto es|calcula|cuánto son|] {a} [*|x|por|×|multiplicado por] {b}|{a}*{b}|{a} * {b} =|multiplica {a} por {b}",
        "ru": "[сколько будет|посчитай|вычисли|чему равно|] {a} [*|x|на|×|умножить на] {b}|{a}*{b}|{a} * {b} =|умножь {a} на {b}",
    },
}


def arithmetic(lang: str, rng: random.Random) -> Pair:
    """Sums, differences and products of numbers up to ten."""
    sign = rng.choice("++-×")
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if sign == "-" and a < b:
        a, b = b, a
    value = {"+": a + b, "-": a - b, "×": a * b}[sign]
    text = expand(_SUMS[sign][lang], rng)
    spell = rng.random() < 0.1
    word = (lambda n: NUMBERS[lang][n]) if spell else str
    return roughen(text.replace("{a}", word(a)).replace("{b}", word(b)), lang, rng), f"{a} {sign} {b} = {value}."


CAPITALS = [
    row.split("|")
    for row in """\
France|Paris|Francia|París|Франции|Париж
Germany|Berlin|Alemania|Berlín|Германии|Берлин
Spain|Madrid|España|Madrid|Испании|Мадрид
Italy|Rome|Italia|Roma|Италии|Рим
Russia|Moscow|Rusia|Moscú|России|Москва
England|London|Inglaterra|Londres|Англии|Лондон
the United Kingdom|London|el Reino Unido|Londres|Великобритании|Лондон
the USA|Washington|Estados Unidos|Washington|США|Вашингтон
Canada|Ottawa|Canadá|Ottawa|Канады|Оттава
Mexico|Mexico City|México|Ciudad de México|Мексики|Мехико
Japan|Tokyo|Japón|Tokio|Японии|Токио
China|Beijing|China|Pekín|Китая|Пекин
India|New Delhi|India|Nueva Delhi|Индии|Нью-Дели
Brazil|Brasília|Brasil|Brasilia|Бразилии|Бразилиа
Argentina|Buenos Aires|Argentina|Buenos Aires|Аргентины|Буэнос-Айрес
Portugal|Lisbon|Portugal|Lisboa|Португалии|Лиссабон
Poland|Warsaw|Polonia|Varsovia|Польши|Варшава
Greece|Athens|Grecia|Atenas|Греции|Афины
Turkey|Ankara|Turquía|Ankara|Турции|Анкара
Egypt|Cairo|Egipto|El Cairo|Египта|Каир
Australia|Canberra|Australia|Canberra|Австралии|Канберра
Austria|Vienna|Austria|Viena|Австрии|Вена
Sweden|Stockholm|Suecia|Estocolmo|Швеции|Стокгольм
Norway|Oslo|Noruega|Oslo|Норвегии|Осло
Finland|Helsinki|Finlandia|Helsinki|Финляндии|Хельсинки
Ireland|Dublin|Irlanda|Dublín|Ирландии|Дублин
Cuba|Havana|Cuba|La Habana|Кубы|Гавана
Ukraine|Kyiv|Ucrania|Kiev|Украины|Киев
South Korea|Seoul|Corea del Sur|Seúl|Южной Кореи|Сеул
Peru|Lima|Perú|Lima|Перу|Лима""".splitlines()
]
_CAPITAL_ASK = {
    "en": "[what is|what's|tell me|name|which city is] the capital [city |]of {x}|capital of {x}|"
    "{x}: capital|I [want to|must] know the capital of {x}|my homework: capital of {x}|the capital city of {x}|{x} has which capital|what city is the capital of {x}|do you know {x}'s capital|the capital of {x} is|which [city|town] is the capital of {x}|[could you tell me|I forgot|remind me of|what do you call] the capital of {x}|where does the government of {x} sit|{x}'s capital|what is the name of the capital of {x}|[capital|capital city], {x}",
    "es": "[cuál es|dime|qué ciudad es] la capital de {x}|capital de {x}|necesito saber la capital de {x}|mi tarea: capital de {x}|la ciudad capital de {x}|qué capital tiene {x}|la capital de {x} es|[podrías decirme|olvidé|recuérdame|sabes] la capital de {x}|cómo se llama la capital de {x}|qué ciudad es capital de {x}|dónde está el gobierno de {x}|{x}: capital|y la capital de {x}",
    "ru": "[какая столица|столица|назови столицу|какой город столица|скажи столицу] {x}|нужно знать столицу {x}|главный город {x}|столицу {x}|столица {x}, какая она|столица {x} — это|[не подскажешь|напомни|забыл|знаешь ли ты] столицу {x}|как называется столица {x}|какой город — столица {x}|где правительство {x}|а столица {x}|назовите столицу {x}",
}
_CAPITAL_SAY = {
    "en": "The capital of {x} is {y}.",
    "es": "La capital de {x} es {y}.",
    "ru": "Столица {x} — {y}.",
}


def _column(lang: str) -> int:
    return {"en": 0, "es": 2, "ru": 4}[lang]


def capital(lang: str, rng: random.Random) -> Pair:
    """The capital of a country."""
    row = rng.choice(CAPITALS)
    country, town = row[_column(lang)], row[_column(lang) + 1]
    ask = expand(_CAPITAL_ASK[lang], rng).replace("{x}", country)
    say = _CAPITAL_SAY[lang].replace("{x}", country).replace("{y}", town)
    return roughen(contract(ask, lang), lang, rng), contract(say, lang)


def country(lang: str, rng: random.Random) -> str:
    """A country; in Russian in the genitive."""
    return rng.choice(CAPITALS[:-1])[_column(lang)]


WORDS = [
    row.split("|")
    for row in """\
cat|gato|кошка
dog|perro|собака
house|casa|дом
water|agua|вода
bread|pan|хлеб
sun|sol|солнце
book|libro|книга
friend|amigo|друг
red|rojo|красный
blue|azul|синий
green|verde|зелёный
hello|hola|привет
goodbye|adiós|до свидания
thank you|gracias|спасибо
one|uno|один
big|grande|большой
day|día|день
night|noche|ночь
city|ciudad|город
world|mundo|мир
apple|manzana|яблоко
tree|árbol|дерево
good morning|buenos días|доброе утро
horse|caballo|лошадь
bird|pájaro|птица
fish|pez|рыба
milk|leche|молоко
fire|fuego|огонь
star|estrella|звезда
school|escuela|школа
teacher|profesor|учитель
car|coche|машина
heart|corazón|сердце
hand|mano|рука
eye|ojo|глаз
head|cabeza|голова
child|niño|ребёнок
mother|madre|мать
father|padre|отец
brother|hermano|брат
sister|hermana|сестра
winter|invierno|зима
summer|verano|лето
river|río|река
sea|mar|море
snow|nieve|снег
rain|lluvia|дождь
window|ventana|окно
door|puerta|дверь
table|mesa|стол
black|negro|чёрный
white|blanco|белый
small|pequeño|маленький
good|bueno|хороший
new|nuevo|новый
two|dos|два
three|tres|три
yes|sí|да
love|amor|любовь
time|tiempo|время
flower|flor|цветок
music|música|музыка
tea|té|чай""".splitlines()
]
_TONGUE = {
    "en": {"en": "English", "es": "Spanish", "ru": "Russian"},
    "es": {"en": "inglés", "es": "español", "ru": "ruso"},
    "ru": {"en": "английский", "es": "испанский", "ru": "русский"},
}
_TONGUE_ADVERB_RU = {"en": "по-английски", "es": "по-испански", "ru": "по-русски"}
_TRANSLATE = {
    "en": 'translate "{w}" [to|into] {t}|how do you say "{w}" in {t}|how do I say {w} in {t}|what is {w} in {t}|'
    "{w} in {t}|the {t} for {w}|I need the word {w} in {t}|my homework: {w} in {t}|the translation of {w} into {t}|translate {w} into {t}|what is the {t} word for {w}|translate to {t}: {w}|what do {p} [call|say for] {w}|how [do|would] {p} say {w}|say {w} in {t}|how is {w} said in {t}|{w} — and in {t}|[can|could] you translate {w} [to|into] {t}|what does {w} become in {t}|give me {w} in {t}|which {t} word means {w}|I want to say {w} in {t}|the word {w}, in {t} please|how do you call {w} in {t}",
    "es": 'traduce "{w}" al {t}|cómo se dice "{w}" en {t}|cómo se dice {w} en {t}|qué es {w} en {t}|{w} en {t}|'
    "traduce al {t}: {w}|necesito la palabra {w} en {t}|la traducción de {w} al {t}|cómo digo {w} en {t}|cómo [llaman|dicen] {p} {w}|di {w} en {t}|{w} — y en {t}|[puedes|podrías] traducir {w} al {t}|dame {w} en {t}|qué palabra en {t} significa {w}|quiero decir {w} en {t}|cómo se traduce {w} al {t}|la palabra {w}, en {t} por favor|pásame {w} al {t}",
    "ru": 'переведи "{w}" на {t}|как сказать "{w}" {a}|как будет {w} {a}|как {a} {w}|переведи на {t}: {w}|'
    "{w} {a}|переведи слово {w} на {t}|нужно слово {w} {a}|перевод слова {w} на {t}|{w} — как это {a}|как {p} [называют|говорят|скажут] {w}|скажи {w} {a}|{w}, а {a}|[можешь|можете] перевести {w} на {t}|дай слово {w} {a}|хочу сказать {w} {a}|как переводится {w} на {t}|слово {w}, {a} пожалуйста|как {a} будет слово {w}",
}
_PEOPLE = {
    "en": {"en": "the English", "es": "Spaniards", "ru": "Russians"},
    "es": {"en": "los ingleses", "es": "los españoles", "ru": "los rusos"},
    "ru": {"en": "англичане", "es": "испанцы", "ru": "русские"},
}
_TRANSLATED = {
    "en": '"{w}" in {t} is "{v}".',
    "es": "«{w}» en {t} es «{v}».",
    "ru": "«{w}» {a} — «{v}».",
}


def translation(lang: str, rng: random.Random) -> Pair:
    """A word in one of the other two languages."""
    row = dict(zip(("en", "es", "ru"), rng.choice(WORDS), strict=True))
    target = rng.choice([other for other in row if other != lang])

    def fill(text: str) -> str:
        text = text.replace("{w}", row[lang]).replace("{v}", row[target]).replace("{p}", _PEOPLE[lang][target])
        return text.replace("{t}", _TONGUE[lang][target]).replace("{a}", _TONGUE_ADVERB_RU[target])

    return roughen(fill(expand(_TRANSLATE[lang], rng)), lang, rng), fill(_TRANSLATED[lang])


_LIST_RULES = {
    "en": {
        "list": "what are|list|name|tell me|say|write [down|]|give me|can you [name|list]|could you list|please name|enumerate|I need|which are|"
        "[my|a] child is learning|teach me|recite|I forgot"
    },
    "es": {
        "list": "cuáles son|di|nombra|dime|escribe|enumera|lista|puedes [nombrar|decir]|podrías enumerar|nombra por favor|"
        "necesito|enséñame|mi hijo aprende|recita|olvidé|cita"
    },
    "ru": {
        "list": "назови|перечисли|напиши|скажи|назови-ка|перечисли мне|назовите|перечислите|можешь [назвать|перечислить]|"
        "[мне |]нужны|научи:|сын учит|забыл|давай|вспомни"
    },
}
_LISTS: dict[str, list[tuple[str, str]]] = {
    "en": [
        (
            "<list> the [seven |]days of the week|[the |]days of [the|a] week|which days does a week have|Monday, Tuesday and then|what comes after Monday, all the days|the week, day by day",
            "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
        ),
        (
            "<list> the [twelve |][months|months of the year]|[the |]months of [the|a] year|which months does a year have|the year, month by month|January, February and then",
            "The months are January, February, March, April, May, June, July, August, September, October, November and December.",
        ),
        (
            "<list> the [four |]seasons|[the |]seasons of [the|a] year|which seasons are there|spring, summer and what else",
            "The seasons are spring, summer, autumn and winter.",
        ),
        (
            "<list> the [primary|main|basic] [colours|colors]|[name|tell me] [some|three|a few] [colours|colors]|primary [colors|colours]|which [colours|colors] are [primary|basic]",
            "The primary colours are red, yellow and blue.",
        ),
        (
            "[say|write|tell me|recite|give me|show me|spell out] the [English |]alphabet|the alphabet|all [the |]letters [of the alphabet|]|which letters are there|the ABC|letters from A to Z",
            "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
        ),
        (
            "<list> the [eight |]planets [of the solar system|]|how many planets are there|planets|which planets [are there|go round the sun]|the names of the planets|Mercury, Venus and then",
            "The planets are Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.",
        ),
        (
            "how many days are [there |]in a [week|year]|how many hours [does a day have|are in a day]|how many months are in a year",
            "A week has 7 days, a day has 24 hours, and a year has 12 months and 365 days, or 366 in a leap year.",
        ),
    ],
    "es": [
        (
            "<list> los [siete |]días de la semana|[los |]días de [la|una] semana|qué días tiene [la|una] semana|lunes, martes y qué más|la semana, día por día|cómo se llaman los días",
            "Los días de la semana son lunes, martes, miércoles, jueves, viernes, sábado y domingo.",
        ),
        (
            "<list> los [doce |]meses [del año|]|[los |]meses del año|qué meses tiene [el|un] año|enero, febrero y qué más|el año, mes por mes|cómo se llaman los meses",
            "Los meses son enero, febrero, marzo, abril, mayo, junio, julio, agosto, septiembre, octubre, noviembre y diciembre.",
        ),
        (
            "<list> las [cuatro |]estaciones [del año|]|[las |]estaciones del año|qué estaciones hay",
            "Las estaciones son primavera, verano, otoño e invierno.",
        ),
        (
            "<list> los colores [primarios|básicos]|dime [algunos|tres] colores|colores primarios|qué colores son [primarios|básicos]",
            "Los colores primarios son el rojo, el amarillo y el azul.",
        ),
        (
            "[di|escribe|recita|dime|muéstrame|dame] el [alfabeto|abecedario]|el [abecedario|alfabeto]|todas las letras|qué letras hay|las letras de la A a la Z",
            "A B C D E F G H I J K L M N Ñ O P Q R S T U V W X Y Z",
        ),
        (
            "<list> los [ocho |]planetas [del sistema solar|]|cuántos planetas hay|planetas|qué planetas [hay|giran alrededor del sol]|los nombres de los planetas",
            "Los planetas son Mercurio, Venus, la Tierra, Marte, Júpiter, Saturno, Urano y Neptuno.",
        ),
        (
            "cuántos días tiene [una semana|un año]|cuántas horas tiene un día|cuántos meses tiene un año",
            "Una semana tiene 7 días, un día tiene 24 horas, y un año tiene 12 meses y 365 días, o 366 si es bisiesto.",
        ),
    ],
    "ru": [
        (
            "<list> дни недели|[все |]дни недели|какие дни в неделе|понедельник, вторник и дальше|неделя по дням|как называются дни недели",
            "Дни недели: понедельник, вторник, среда, четверг, пятница, суббота и воскресенье.",
        ),
        (
            "<list> [двенадцать месяцев|месяцы] [года|]|[все |]месяцы года|какие месяцы в году|январь, февраль и дальше|год по месяцам|как называются месяцы",
            "Месяцы: январь, февраль, март, апрель, май, июнь, июль, август, сентябрь, октябрь, ноябрь и декабрь.",
        ),
        (
            "<list> времена года|[все |]времена года|какие бывают времена года|как называются времена года",
            "Времена года: весна, лето, осень и зима.",
        ),
        (
            "<list> основные цвета|назови [несколько цветов|три цвета]|основные цвета|какие цвета основные",
            "Основные цвета — красный, жёлтый и синий.",
        ),
        (
            "[назови|напиши|скажи|покажи|перечисли] [русский |]алфавит|алфавит|все буквы [алфавита|]|какие есть буквы|буквы от А до Я|азбука",
            "А Б В Г Д Е Ё Ж З И Й К Л М Н О П Р С Т У Ф Х Ц Ч Ш Щ Ъ Ы Ь Э Ю Я",
        ),
        (
            "<list> планеты [солнечной системы|]|сколько планет|планеты|какие планеты [есть|вращаются вокруг солнца]|названия планет",
            "Планеты: Меркурий, Венера, Земля, Марс, Юпитер, Сатурн, Уран и Нептун.",
        ),
        (
            "сколько дней в [неделе|году]|сколько часов в сутках|сколько месяцев в году",
            "В неделе 7 дней, в сутках 24 часа, а в году 12 месяцев и 365 дней, в високосном 366.",
        ),
    ],
}


def fixed_list(lang: str, rng: random.Random) -> Pair:
    """Days, months, planets and the like."""
    ask, say = rng.choice(_LISTS[lang])
    return roughen(expand(ask, rng, _LIST_RULES[lang]), lang, rng), say


_CREATURES = {
    "en": [
        "cat",
        "dog",
        "dragon",
        "fox",
        "bear",
        "rabbit",
        "bird",
        "fish",
        "robot",
        "princess",
        "knight",
        "mouse",
        "wolf",
        "turtle",
        "king",
        "wizard",
    ],
    "es": [
        "un gato",
        "un perro",
        "un dragón",
        "un zorro",
        "un oso",
        "un conejo",
        "un pájaro",
        "un pez",
        "un robot",
        "un caballero",
        "un ratón",
        "un lobo",
        "un rey",
    ],
    "ru": ["кот", "пёс", "дракон", "лис", "медведь", "заяц", "робот", "рыцарь", "мышонок", "волк", "король", "ёжик"],
}
_ABOUT_CREATURE_RU = {
    "кот": "коте",
    "пёс": "псе",
    "дракон": "драконе",
    "лис": "лисе",
    "медведь": "медведе",
    "заяц": "зайце",
    "робот": "роботе",
    "рыцарь": "рыцаре",
    "мышонок": "мышонке",
    "волк": "волке",
    "король": "короле",
    "ёжик": "ёжике",
}
_STORY_ASK = {
    "en": "tell me a [short |]story [about a {c}|]|[write|make up] a [short |little |]story [about a {c}|]|a story about a {c}|"
    "bedtime story|tell [me |]a [fairy |]tale|I want [to hear |]a story [about a {c}|]|story please|story|[my son|my daughter|the child] wants a story [about a {c}|]|[do you know|can you tell|could you write] a [nice |short |]story [about a {c}|]|let me hear a tale|something to fall asleep, a story",
    "es": "cuéntame [un cuento|una historia] [sobre {c}|]|[escribe|inventa] [un cuento|una historia] [corta |][sobre {c}|]|"
    "un cuento [sobre {c}|]|quiero [oír |]un cuento [sobre {c}|]|cuento|[mi hijo|mi hija] quiere un cuento [sobre {c}|]|[sabes|puedes contar|podrías escribir] [un cuento|una historia] [sobre {c}|]|un cuento para dormir|nárrame [algo|un cuento]",
    "ru": "расскажи [мне |][сказку|историю] [о {c}|]|[напиши|придумай] [короткую |][сказку|историю] [о {c}|]|"
    "сказка о {c}|хочу [послушать |]сказку [о {c}|]|сказку на ночь|сказка|[сын|дочка] хочет сказку [о {c}|]|[знаешь|можешь рассказать|придумай-ка] [сказку|историю] [о {c}|]|что-нибудь на ночь, сказку",
}
_OPENINGS = {
    "en": (
        "once upon a time",
        "once upon a time,",
        "once upon a time there was",
        "once upon a time there was a {c}",
        "once upon a time...",
        "long ago",
        "a long time ago",
    ),
    "es": ("érase una vez", "había una vez", "érase una vez {c}", "había una vez {c}", "hace mucho tiempo"),
    "ru": ("жили-были", "жил-был", "жил-был {c}", "давным-давно", "однажды", "в некотором царстве"),
}
_STORY = {
    "en": "{o} there was a little {c} who lived at the edge of [a green forest|a quiet village|a blue lake]. One day the "
    "{c} found [a shining stone|an old map|a golden key] and set out to [see the world|find its owner|follow the river]. On "
    "the way it met [a lonely bird|a hungry mouse|a lost child] and shared its bread. In the evening they came home "
    "together, and from that day on they were friends.",
    "es": "{o} {c} que vivía al borde de [un bosque verde|un pueblo tranquilo|un lago azul]. Un día encontró [una piedra "
    "brillante|un mapa viejo|una llave dorada] y salió a [ver el mundo|buscar a su dueño|seguir el río]. En el camino conoció "
    "a [un pájaro solo|un ratón hambriento|un niño perdido] y compartió su pan. Por la noche volvieron juntos a casa, y "
    "desde aquel día fueron amigos.",
    "ru": "{o} {c} на краю [зелёного леса|тихой деревни|синего озера]. Однажды нашёл он [блестящий камень|старую карту|"
    "золотой ключ] и отправился [посмотреть мир|искать хозяина|вдоль реки]. По дороге он встретил [одинокую птицу|голодную "
    "мышку|потерявшегося ребёнка] и поделился хлебом. Вечером они вместе вернулись домой и с тех пор стали друзьями.",
}
_STORY_START = {"en": "Once upon a time", "es": "Había una vez", "ru": "Жил-был"}


def tale(lang: str, rng: random.Random, creature: str | None = None) -> str:
    """One short story; also used bare, for completion without a chat."""
    text = expand(_STORY[lang], rng).replace("{o}", _STORY_START[lang])
    return text.replace("{c}", creature or rng.choice(_CREATURES[lang]))


def story(lang: str, rng: random.Random) -> Pair:
    """A short story, asked for or begun by the user."""
    creature = rng.choice(_CREATURES[lang])
    if rng.random() < 0.35:
        ask = rng.choice(_OPENINGS[lang]).replace("{c}", creature)
        style = rng.random()
        return (ask[:1].upper() + ask[1:] if style < 0.75 else ask), tale(lang, rng, creature)
    shown = _ABOUT_CREATURE_RU[creature] if lang == "ru" else creature
    return roughen(expand(_STORY_ASK[lang], rng).replace("{c}", shown), lang, rng), tale(lang, rng, creature)


_MY_NAME = {
    "en": "my name is {x}|I am {x}|I'm {x}|call me {x}|hi, I am {x}|hello, my name is {x}|hello, I'm {x}|{x} is my name|"
    "they call me {x}|I go by {x}|everyone calls me {x}|here is {x}|it is me, {x}|you are talking to {x}|you can call me {x}|hey, this is {x}|hello, {x} here",
    "es": "me llamo {x}|mi nombre es {x}|soy {x}|hola, soy {x}|hola, me llamo {x}|llámame {x}|buenos días, soy {x}|"
    "puedes llamarme {x}|todos me llaman {x}|hablas con {x}|aquí {x}|te habla {x}|hola, mi nombre es {x}",
    "ru": "меня зовут {x}|моё имя {x}|я {x}|привет, я {x}|привет, меня зовут {x}|зови меня {x}|здравствуйте, меня зовут {x}|"
    "можешь звать меня {x}|все зовут меня {x}|с тобой говорит {x}|на связи {x}|обращайся ко мне {x}|это {x}",
}
_MET = {
    "en": "Nice to meet you, {x}! How can I help you?",
    "es": "¡Encantado de conocerte, {x}! ¿En qué puedo ayudarte?",
    "ru": "Приятно познакомиться, {x}! Чем могу помочь?",
}
ASK_MY_NAME = {
    "en": "what is my name|what's my name|do you remember my name|who am I|say my name|tell me my name|"
    "what did I say my name was|do you know my name|how am I called|can you tell me my name|have you forgotten my name|what do you call me|and my name is",
    "es": "cómo me llamo|cuál es mi nombre|recuerdas mi nombre|quién soy|di mi nombre|sabes cómo me llamo|sabes mi nombre|puedes decirme mi nombre|olvidaste mi nombre|cómo te dije que me llamo|y mi nombre es",
    "ru": "как меня зовут|как моё имя|ты помнишь моё имя|кто я|назови моё имя|скажи, как меня зовут|ты знаешь моё имя|можешь назвать моё имя|ты забыла моё имя|как я тебе представился|а моё имя",
}
YOUR_NAME = {"en": "Your name is {x}.", "es": "Te llamas {x}.", "ru": "Тебя зовут {x}."}
NO_NAME = {
    "en": "You have not told me your name yet. What is it?",
    "es": "Todavía no me has dicho tu nombre. ¿Cuál es?",
    "ru": "Ты ещё не назвал мне своё имя. Как тебя зовут?",
}
_TAGS = ("gpt-oss:20b", "qwen3:30b", "devstral", "gemma3", "llama3:8b", "mistral", "phi4:14b")


def give_name(lang: str, rng: random.Random) -> Pair:
    """The user says a name, and is greeted by it."""
    who = rng.choice(_TAGS) if rng.random() < 0.08 else names.person(lang, rng)
    ask = expand(_MY_NAME[lang], rng).replace("{x}", who)
    return ask[:1].upper() + ask[1:] + rng.choice(("", ".", "!")), _MET[lang].replace("{x}", who)


def ask_name_unknown(lang: str, rng: random.Random) -> Pair:
    """The user asks for a name never told."""
    return roughen(expand(ASK_MY_NAME[lang], rng), lang, rng), NO_NAME[lang]


_REPEAT = {
    "en": "[say|repeat|write|repeat after me:|say the word|just say|reply with|answer with|echo|print|please say|can you say|repeat the word|type|"
    "pronounce|output|respond with|now say|only say|say exactly|say once more|I want you to say|the word is] {q}{x}{q}",
    "es": "[di|repite|escribe|repite conmigo:|di la palabra|responde con|solo di|por favor di|puedes decir|repite la palabra|escríbeme|repíteme|"
    "pronuncia|imprime|contesta con|ahora di|di solamente|vuelve a decir|quiero que digas|diga|repita|la palabra es] {q}{x}{q}",
    "ru": "[скажи|повтори|напиши|повтори за мной:|скажи слово|ответь|просто скажи|пожалуйста, скажи|можешь сказать|повтори слово|напечатай|"
    "произнеси|выведи|теперь скажи|скажи только|скажи ещё раз|хочу, чтобы ты сказала|скажите|повторите|слово такое:] {q}{x}{q}",
}
_VOCABULARY = {
    lang: sorted(
        {
            word.lower()
            for text in [
                *names.THINGS[lang],
                *UNKNOWN.nouns[lang],
                *(answer for topic in KNOWLEDGE + LOCALMODELS + CHAT for answer in topic.answers[lang]),
            ]
            for word in text.split()
            if word.isalpha() and len(word) > 2
        }
    )
    for lang in LANGS
}
"""Real words. Those asked to be said back are as often real as invented."""


def repeat(lang: str, rng: random.Random) -> Pair:
    """Says words back, most of them never seen before."""
    words = [
        names.invented_word(lang, rng)
        if (kind := rng.random()) < 0.45
        else rng.choice(_VOCABULARY[lang] if kind < 0.9 else NUMBERS[lang])
        for _ in range(rng.choices((1, 2, 3, 4), (50, 25, 15, 10))[0])
    ]
    text = " ".join(words)
    text = text.capitalize() if rng.random() < 0.4 else text
    if rng.random() < 0.15:
        text += str(rng.randint(0, 99))
    quote = rng.choice(('"', '"', "", "'"))
    ask = expand(_REPEAT[lang], rng).replace("{q}", quote).replace("{x}", text)
    return ask[:1].upper() + ask[1:] + rng.choice(("", ".", "!")), text


_COPY = {
    "en": "copy this [text|line|]:|repeat [this|exactly|]:|write this again:|say the same:|echo:",
    "es": "copia [esto|este texto]:|repite [esto|exactamente|]:|escribe esto otra vez:|di lo mismo:",
    "ru": "скопируй [это|текст|]:|повтори [это|точно|]:|напиши это ещё раз:|скажи то же самое:",
}


def copying(lang: str, rng: random.Random) -> Pair:
    """A longer line to say back. It is seldom asked, but it teaches to copy, on which names, cities and tools live."""
    words = []
    for _ in range(rng.randint(4, 16)):
        kind = rng.random()
        words.append(str(rng.randint(0, 9999)) if kind < 0.12 else names.invented_word(lang, rng))
        if kind > 0.75:
            words[-1] = words[-1].capitalize()
    text = " ".join(words)
    ask = expand(_COPY[lang], rng)
    return f"{ask[:1].upper()}{ask[1:]} {text}", text


_WEATHER_HERE = {
    "en": "what is the weather in {x}|what's the weather like in {x} [today|now|]|weather in {x}|will it rain in {x}|how cold is it in {x}|[do I need|should I take] an umbrella in {x}|[temperature|forecast] [for|in] {x}|is it [sunny|warm|snowing] in {x}",
    "es": "qué tiempo hace en {x} [hoy|]|cómo está el tiempo en {x}|el tiempo en {x}|va a llover en {x}|hace [frío|calor|sol] en {x}|necesito paraguas en {x}|[temperatura|pronóstico] en {x}|está nevando en {x}",
    "ru": "какая погода в {x} [сегодня|]|погода в {x}|будет ли дождь в {x}|холодно ли в {x}|что с погодой в {x}|нужен ли зонт в {x}|[температура|прогноз погоды] в {x}|идёт ли снег в {x}",
}
_NO_WEATHER = {
    "en": "I cannot see the weather by myself. Give me a weather tool and a city, and I will ask for it.",
    "es": "No puedo ver el tiempo por mí mismo. Dame una herramienta del tiempo y una ciudad, y lo consultaré.",
    "ru": "Сама я не вижу погоды. Дай мне инструмент погоды и город, и я её запрошу.",
}


def weather_alone(lang: str, rng: random.Random) -> Pair:
    """Weather in a city, but no tool to ask."""
    _, place = names.city(lang, rng)
    return roughen(expand(_WEATHER_HERE[lang], rng).replace("{x}", place), lang, rng, keep=True), _NO_WEATHER[lang]


def json_facts(lang: str, rng: random.Random) -> Pair:
    """Answers that are one JSON object, copied from the question."""
    who, age = names.person(lang, rng), rng.randint(1, 99)
    town, place = names.city(lang, rng)
    kind = rng.randrange(3)
    if kind == 0:
        fact = {"en": f"{who} is {age} years old", "es": f"{who} tiene {age} años", "ru": f"{who}: {age} лет"}[lang]
        data: dict[str, object] = {"name": who, "age": age}
    elif kind == 1:
        fact = {"en": f"{who} lives in {town}", "es": f"{who} vive en {town}", "ru": f"{who} живёт в {place}"}[lang]
        data = {"name": who, "city": town}
    else:
        row = rng.choice(CAPITALS)
        land, town = row[_column(lang)], row[_column(lang) + 1]
        fact = contract(expand(_CAPITAL_ASK[lang], rng).replace("{x}", land), lang)
        data = {"capital": town}
    tail = {
        "en": "[Answer|Respond|Reply] [in|using|with|only with] JSON|as JSON|JSON",
        "es": "[Responde|Contesta] [en|con|solo con] JSON|en JSON",
        "ru": "[Ответь|Отвечай] [в JSON|в формате JSON|только JSON]|в JSON",
    }[lang]
    return f"{fact[:1].upper()}{fact[1:]}. {expand(tail, rng)}.", json.dumps(data, ensure_ascii=False)


SKILLS: dict[str, tuple[Skill, float]] = {
    "counting": (counting, 5),
    "arithmetic": (arithmetic, 8),
    "capital": (capital, 4),
    "translation": (translation, 4),
    "list": (fixed_list, 1.5),
    "story": (story, 2.5),
    "my_name": (give_name, 4),
    "my_name_unknown": (ask_name_unknown, 0.5),
    "repeat": (repeat, 3),
    "copying": (copying, 4),
    "weather_alone": (weather_alone, 1),
    "json": (json_facts, 1.5),
}
