# ruff: noqa: E501
"""Conversations with tools: pick the one that fits, copy the arguments, answer from its result, or leave it alone.

Clients write the same tool in many ways, so names, descriptions, parameter names, the order of keys and the company of
other tools all vary. The shapes in OpenAI's and Ollama's own manuals come up most.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import names
from .grammar import expand, roughen

Json: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """One fitting request: what the user says, and the calls it leads to (several only for several cities)."""

    question: str
    calls: list[tuple[str, Json]]
    places: list[str]


def _function(name: str, description: str, properties: Json, required: list[str], rng: random.Random) -> Json:
    schema: Json = {"type": "object", "properties": properties, "required": required}
    if rng.random() < 0.25:
        schema = {"type": "object", "required": required, "properties": properties}
    if rng.random() < 0.12:
        schema["additionalProperties"] = False
    function: Json = {"name": name, "description": description, "parameters": schema}
    if rng.random() < 0.1:
        function["strict"] = True
    if rng.random() < 0.05:
        del function["description"]
    return {"type": "function", "function": function}


def _text(description: str, rng: random.Random) -> Json:
    field: Json = {"type": "string"}
    if rng.random() < 0.8:
        field["description"] = description
    return field


_WEATHER_NAMES = (
    "get_current_weather",
    "get_current_weather",
    "get_weather",
    "get_weather",
    "weather",
    "current_weather",
    "getWeather",
    "fetch_weather",
    "weather_lookup",
    "get_weather_forecast",
    "get_forecast",
    "check_weather",
)
_TEMPERATURE_NAMES = ("get_temperature", "get_current_temperature", "temperature")
_WEATHER_TEXTS = (
    "Get the current weather in a given location",
    "Get the current weather for a city",
    "Get the weather in a city",
    "Get current weather",
    "Get the current weather for a location",
    "Returns the weather of a place",
    "Get current temperature for a given location.",
    "Weather for a city",
    "Look up the weather",
    "Current weather",
    "Get weather information for a location",
    "Obtener el tiempo de una ciudad",
    "Получить погоду в городе",
)
_PLACE_FIELDS = {
    "city": ("The name of the city", "The city name", "City name", "The city", "Name of the city, e.g. London"),
    "location": (
        "The city and state, e.g. San Francisco, CA",
        "The location to get the weather for, e.g. San Francisco, CA",
        "City and country e.g. Bogotá, Colombia",
        "The location",
        "The city and country, eg. San Francisco, USA",
    ),
    "place": ("The place", "Where", "Name of the place"),
    "city_name": ("The name of the city",),
    "town": ("The town",),
    "q": ("City to look up",),
}
_UNIT_FIELDS = ("unit", "unit", "format", "format", "units")
_UNIT_TEXTS = (
    "The temperature unit to use",
    "The format to return the weather in, e.g. 'celsius' or 'fahrenheit'",
    "Unit",
)

_ASK_WEATHER = {
    "en": "[what is|what's|tell me|how is|how's|show me|check|get|give me] the [current |]weather [like |]in {x} [today|now|right now|]|"
    "weather in {x}|[what is|what's] the temperature in {x} [now|]|is it [raining|cold|warm|sunny|hot] in {x} [today|now|]|"
    "will it rain in {x} [today|tomorrow|]|how [warm|cold|hot] is it in {x}|do I need [an umbrella|a coat] in {x}|"
    "I am [travelling|going|flying] to {x}, [what is the weather|how is the weather] there|{x} weather|weather for {x}|"
    "what's the forecast for {x}|what is the weather today in {x}",
    "es": "[qué tiempo hace|cómo está el tiempo|qué temperatura hace|qué clima hay] en {x} [hoy|ahora|]|el tiempo en {x}|"
    "[dime|consulta|dame|mira] el [tiempo|clima] [en|de] {x}|[llueve|hace frío|hace calor|hace sol] en {x} [hoy|]|va a llover en {x}|"
    "cuál es el clima [de|en] {x}|cuántos grados hay en {x}|clima en {x}|viajo a {x}, qué tiempo hace allí",
    "ru": "[какая|какая сейчас|какая сегодня] погода в {x} [сегодня|сейчас|]|погода в {x}|[скажи|узнай|покажи|проверь] погоду в {x}|"
    "[идёт ли дождь|холодно ли|тепло ли|жарко ли] в {x} [сегодня|]|будет ли дождь в {x}|сколько градусов в {x}|"
    "какая температура в {x}|что с погодой в {x}|как погода в {x}",
}
_ASK_UNIT = {
    "en": (" in celsius", " in fahrenheit", " (celsius)", " in degrees fahrenheit", ", use celsius"),
    "es": (" en celsius", " en fahrenheit", " en grados celsius"),
    "ru": (" в цельсиях", " в фаренгейтах", " в градусах цельсия"),
}
_REGIONS = {
    "en": ("CA", "NY", "MA", "TX", "UK", "France", "Germany", "USA", "Japan", "Italy"),
    "es": ("España", "Colombia", "México", "Perú", "Chile"),
    "ru": ("Россия", "Франция", "Италия"),
}
_AND = {"en": " and ", "es": " y ", "ru": " и "}


class WeatherTool:
    """The example of every manual. One drawn variant: its name, fields and units stay fixed for a conversation."""

    def __init__(self, rng: random.Random) -> None:
        self.name = rng.choice(_WEATHER_NAMES if rng.random() < 0.85 else _TEMPERATURE_NAMES)
        self.place = rng.choices(list(_PLACE_FIELDS), (38, 42, 6, 6, 4, 4))[0]
        self.unit = rng.choice(_UNIT_FIELDS) if rng.random() < 0.45 else None
        self.unit_required = rng.random() < 0.5
        properties: Json = {self.place: _text(rng.choice(_PLACE_FIELDS[self.place]), rng)}
        required = [self.place]
        if self.unit:
            field: Json = {"type": "string", "enum": ["celsius", "fahrenheit"]}
            if rng.random() < 0.5:
                field = {"type": "string", "description": rng.choice(_UNIT_TEXTS), "enum": ["celsius", "fahrenheit"]}
            properties[self.unit] = field
            if self.unit_required:
                required.append(self.unit)
        self.schema = _function(self.name, rng.choice(_WEATHER_TEXTS), properties, required, rng)

    def use(self, lang: str, rng: random.Random) -> Use:
        count = rng.choices((1, 2, 3), (88, 9, 3))[0]
        towns = [names.city(lang, rng) for _ in range(count)]
        if count == 1 and rng.random() < 0.12:
            region = rng.choice(_REGIONS[lang])
            towns = [(f"{towns[0][0]}, {region}", f"{towns[0][1]}, {region}")]
        spoken = [place for _, place in towns]
        listed = spoken[0] if count == 1 else ", ".join(spoken[:-1]) + _AND[lang] + spoken[-1]
        text = expand(_ASK_WEATHER[lang], rng).replace("{x}", listed)
        unit = "celsius"
        asked = False
        if self.unit and rng.random() < 0.3:
            said = rng.choice(_ASK_UNIT[lang])
            text += said
            asked = True
            unit = "fahrenheit" if "ahren" in said or "фарен" in said else "celsius"
        text = roughen(text, lang, rng, keep=True)
        if rng.random() < 0.1:
            text = text.lower()
        calls: list[tuple[str, Json]] = []
        for town, _ in towns:
            arguments: Json = {self.place: town}
            if self.unit and (self.unit_required or asked):
                arguments[self.unit] = unit
            calls.append((self.name, arguments))
        return Use(text, calls, [place for _, place in towns])

    def result(self, town: str, lang: str, rng: random.Random) -> tuple[str, str, str]:
        """What the tool returned, and the words the answer must carry over: degrees and sky."""
        degrees = str(rng.randint(-25, 40))
        sky_en, sky = rng.choice(_SKIES[lang])
        unit = "°F" if rng.random() < 0.1 else "°C"
        kind = rng.randrange(7)
        shown = rng.choice((sky_en, sky))
        if kind == 0:
            return f"{degrees} degrees, {shown}", f"{degrees} degrees", sky
        if kind == 1:
            return f"{degrees}{unit}", f"{degrees} {unit}", ""
        if kind == 2:
            return f"{shown}, {degrees}{unit}", f"{degrees} {unit}", sky
        data: Json = {"temperature": int(degrees)}
        if kind >= 4:
            data = {
                rng.choice(("location", "city")): town,
                "temperature": degrees if rng.random() < 0.4 else int(degrees),
            }
        words = f"{degrees} °C"
        if rng.random() < 0.4:
            data["unit"] = "fahrenheit" if unit == "°F" else "celsius"
            words = f"{degrees} {unit}"
        if rng.random() < 0.7:
            data[rng.choice(("condition", "conditions", "description", "weather", "forecast"))] = shown
            return json.dumps(data, ensure_ascii=False), words, sky
        return json.dumps(data, ensure_ascii=False), words, ""

    def report(self, place: str, degrees: str, sky: str, lang: str) -> str:
        degrees = degrees.replace("degrees", {"en": "degrees", "es": "grados", "ru": "градусов"}[lang])
        middle = {
            "en": f"In {place} it is {degrees}",
            "es": f"En {place} hay {degrees}",
            "ru": f"В {place} сейчас {degrees}",
        }[lang]
        if not sky:
            return middle + "."
        return middle + {"en": " and ", "es": ", ", "ru": ", "}[lang] + sky + "."


_SKIES = {
    "en": [(w, w) for w in ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "partly cloudy", "stormy")],
    "es": [
        ("sunny", "soleado"),
        ("cloudy", "nublado"),
        ("rainy", "lluvioso"),
        ("windy", "ventoso"),
        ("snowy", "nevado"),
        ("clear", "despejado"),
        ("partly cloudy", "parcialmente nublado"),
    ],
    "ru": [
        ("sunny", "солнечно"),
        ("cloudy", "облачно"),
        ("rainy", "дождь"),
        ("windy", "ветрено"),
        ("snowy", "снег"),
        ("clear", "ясно"),
        ("partly cloudy", "переменная облачность"),
    ],
}


@dataclass(frozen=True)
class Simple:
    """A tool with a fixed idea: names and descriptions to draw from, its fields, its questions and its answer."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    fields: dict[str, tuple[str, tuple[str, ...]]]
    """Meaning → (JSON type, names to draw from)."""
    ask: dict[str, str]
    say: dict[str, str]


SIMPLE = (
    Simple(
        ("get_time", "get_current_time", "current_time", "time_in_city", "getTime"),
        ("Get the current time in a city", "Current time", "Returns the local time"),
        {"city": ("string", ("city", "location", "timezone", "place"))},
        {
            "en": "[what time is it|what's the time|tell me the time|current time] in {city}|time in {city}",
            "es": "qué hora es en {city}|dime la hora [en|de] {city}|hora en {city}",
            "ru": "[который час|сколько времени|сколько сейчас времени] в {city}|время в {city}",
        },
        {"en": "It is {r} in {city}.", "es": "Son las {r} en {city}.", "ru": "Сейчас {r} в {city}."},
    ),
    Simple(
        ("add_two_numbers", "add", "sum_numbers", "add_numbers", "calculate_sum"),
        ("Add two numbers", "Adds a and b"),
        {"a": ("integer", ("a", "x", "first", "num1")), "b": ("integer", ("b", "y", "second", "num2"))},
        {
            "en": "[what is|calculate|compute|add] {a} [plus|+|and] {b}|{a} + {b}|add {a} and {b}",
            "es": "[cuánto es|calcula|suma] {a} [más|+] {b}|suma {a} y {b}",
            "ru": "[сколько будет|сложи|посчитай] {a} [плюс|+] {b}",
        },
        {"en": "{a} + {b} = {r}.", "es": "{a} + {b} = {r}.", "ru": "{a} + {b} = {r}."},
    ),
    Simple(
        ("subtract_two_numbers", "subtract"),
        ("Subtract two numbers", "Subtract b from a"),
        {"a": ("integer", ("a", "x")), "b": ("integer", ("b", "y"))},
        {
            "en": "[what is|calculate|compute] {a} [minus|-] {b}",
            "es": "[cuánto es|calcula] {a} [menos|-] {b}",
            "ru": "[сколько будет|посчитай] {a} [минус|-] {b}",
        },
        {"en": "{a} - {b} = {r}.", "es": "{a} - {b} = {r}.", "ru": "{a} - {b} = {r}."},
    ),
    Simple(
        ("multiply", "multiply_two_numbers"),
        ("Multiply two numbers",),
        {"a": ("integer", ("a", "x")), "b": ("integer", ("b", "y"))},
        {
            "en": "[what is|calculate] {a} [times|*|multiplied by] {b}|multiply {a} by {b}",
            "es": "[cuánto es|calcula] {a} [por|*] {b}|multiplica {a} por {b}",
            "ru": "[сколько будет|посчитай] {a} [умножить на|*|на] {b}",
        },
        {"en": "{a} × {b} = {r}.", "es": "{a} × {b} = {r}.", "ru": "{a} × {b} = {r}."},
    ),
    Simple(
        ("web_search", "search", "search_web", "google_search"),
        ("Search the web", "Search the internet for information"),
        {"thing": ("string", ("query", "q", "search_query"))},
        {
            "en": "[search for|search the web for|look up|find information about|google] {thing}",
            "es": "[busca|busca en internet|busca información sobre] {thing}",
            "ru": "[найди|поищи|найди в интернете|погугли] {thing}",
        },
        {"en": "I found: {r}", "es": "He encontrado: {r}", "ru": "Вот что нашлось: {r}"},
    ),
    Simple(
        ("get_horoscope", "horoscope"),
        ("Get today's horoscope for an astrological sign.",),
        {"sign": ("string", ("sign",))},
        {
            "en": "[what is my horoscope|my horoscope]? I am [an|a] {sign}|horoscope for {sign}",
            "es": "cuál es mi horóscopo? soy {sign}|horóscopo de {sign}",
            "ru": "какой мой гороскоп? я {sign}|гороскоп: {sign}",
        },
        {"en": "{sign}: {r}", "es": "{sign}: {r}", "ru": "{sign}: {r}"},
    ),
    Simple(
        ("get_stock_price", "stock_price"),
        ("Get the current stock price", "Price of a stock by its symbol"),
        {"symbol": ("string", ("symbol", "ticker"))},
        {
            "en": "[what is|get|tell me] the stock price of {symbol}|price of {symbol} stock",
            "es": "[cuál es|dime] el precio de la acción {symbol}|precio de {symbol}",
            "ru": "[какая|скажи] цена акции {symbol}|сколько стоит акция {symbol}",
        },
        {"en": "{symbol} is at {r}.", "es": "{symbol} está a {r}.", "ru": "{symbol} стоит {r}."},
    ),
    Simple(
        ("send_email", "send_mail", "send_message"),
        ("Send an email", "Send a message to someone"),
        {"person": ("string", ("to", "recipient")), "phrase": ("string", ("body", "text", "message"))},
        {
            "en": "[send an email to|write an email to|tell] {person}: {phrase}|send {person} the message {phrase}",
            "es": "[envía un correo a|escribe a|manda un mensaje a] {person}: {phrase}",
            "ru": "[отправь письмо|напиши письмо|отправь сообщение] для {person}: {phrase}",
        },
        {
            "en": "Done: the message to {person} was sent.",
            "es": "Hecho: el mensaje a {person} fue enviado.",
            "ru": "Готово: сообщение для {person} отправлено.",
        },
    ),
    Simple(
        ("set_timer", "start_timer"),
        ("Set a timer", "Start a timer for some minutes"),
        {"a": ("integer", ("minutes", "duration"))},
        {
            "en": "[set|start] a timer for {a} minutes|timer {a} minutes",
            "es": "pon un temporizador de {a} minutos",
            "ru": "[поставь|включи] таймер на {a} минут",
        },
        {
            "en": "The timer is set for {a} minutes.",
            "es": "El temporizador está puesto en {a} minutos.",
            "ru": "Таймер на {a} минут включён.",
        },
    ),
    Simple(
        ("turn_on_light", "switch_light", "light_on"),
        ("Turn on the light in a room",),
        {"room": ("string", ("room",))},
        {
            "en": "[turn|switch] on the light in the {room}",
            "es": "enciende la luz de la {room}",
            "ru": "включи свет: {room}",
        },
        {
            "en": "The light in the {room} is on.",
            "es": "La luz de la {room} está encendida.",
            "ru": "Свет включён: {room}.",
        },
    ),
)
_SIGNS = {
    "en": ["Aries", "Taurus", "Gemini", "Leo", "Virgo", "Libra", "Pisces", "Aquarius"],
    "es": ["Aries", "Tauro", "Géminis", "Leo", "Virgo", "Libra", "Piscis", "Acuario"],
    "ru": ["Овен", "Телец", "Близнецы", "Лев", "Дева", "Весы", "Рыбы", "Водолей"],
}
_ROOMS = {
    "en": ["kitchen", "bedroom", "hall", "bathroom", "office", "garage"],
    "es": ["cocina", "habitación", "sala", "oficina"],
    "ru": ["кухня", "спальня", "коридор", "ванная", "кабинет"],
}
_PHRASES = {
    "en": ("I will be late", "see you tomorrow", "happy birthday", "call me please", "the meeting is at five"),
    "es": ("llego tarde", "nos vemos mañana", "feliz cumpleaños", "llámame por favor"),
    "ru": ("я опоздаю", "увидимся завтра", "с днём рождения", "позвони мне, пожалуйста"),
}


def _fill(meaning: str, lang: str, rng: random.Random) -> tuple[str | int, str]:
    """A value for a field and how the user says it."""
    if meaning == "city":
        return names.city(lang, rng)
    if meaning in ("a", "b"):
        number = rng.choice((rng.randint(1, 20), rng.randint(1, 100), rng.randint(100, 9999)))
        return number, str(number)
    if meaning == "symbol":
        ticker = rng.choice(
            (
                "AAPL",
                "GOOG",
                "MSFT",
                "TSLA",
                "NVDA",
                "".join(rng.choices("ABCDEFGHKLMNPRSTUVWXYZ", k=rng.choice((3, 4)))),
            )
        )
        return ticker, ticker
    table = {
        "thing": lambda: names.unknown_thing(lang, rng),
        "sign": lambda: rng.choice(_SIGNS[lang]),
        "room": lambda: rng.choice(_ROOMS[lang]),
        "person": lambda: names.person(lang, rng),
        "phrase": lambda: (
            rng.choice(_PHRASES[lang])
            if rng.random() < 0.5
            else " ".join(names.invented_word(lang, rng) for _ in range(rng.randint(1, 4)))
        ),
    }
    value = table[meaning]()
    return value, value


class SimpleTool:
    """One drawn variant of a ``Simple``."""

    def __init__(self, kind: Simple, rng: random.Random) -> None:
        self.kind = kind
        self.name = rng.choice(kind.names)
        at = rng.randrange(4)
        self.fields = {meaning: options[at % len(options)] for meaning, (_, options) in kind.fields.items()}
        properties: Json = {}
        for meaning, (kind_of, _) in kind.fields.items():
            properties[self.fields[meaning]] = {"type": kind_of}
            if rng.random() < 0.6:
                properties[self.fields[meaning]]["description"] = f"The {self.fields[meaning]}"
        self.schema = _function(self.name, rng.choice(kind.texts), properties, list(properties), rng)
        self.filled: dict[str, tuple[str | int, str]] = {}

    def use(self, lang: str, rng: random.Random) -> Use:
        self.filled = {meaning: _fill(meaning, lang, rng) for meaning in self.kind.fields}
        text = self.put(expand(self.kind.ask[lang], rng))
        arguments = {self.fields[meaning]: value for meaning, (value, _) in self.filled.items()}
        return Use(roughen(text, lang, rng, keep=True), [(self.name, arguments)], [])

    def put(self, text: str) -> str:
        for meaning, (_, spoken) in self.filled.items():
            text = text.replace("{" + meaning + "}", spoken)
        return text

    def result(self, rng: random.Random, lang: str) -> tuple[str, str]:
        """What the tool returned, and the answer made from it."""
        head = self.kind.names[0]
        if "a" in self.filled and "b" in self.filled:
            a, b = int(self.filled["a"][0]), int(self.filled["b"][0])
            value = str({"add_two_numbers": a + b, "subtract_two_numbers": a - b}.get(head, a * b))
        elif head == "get_time":
            value = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        elif head == "get_stock_price":
            value = f"{rng.randint(1, 900)}.{rng.randint(0, 99):02}"
        elif head in ("web_search", "get_horoscope"):
            value = " ".join(names.invented_word(lang, rng) for _ in range(rng.randint(2, 6)))
        else:
            value = "ok"
        raw = (
            value
            if rng.random() < 0.6
            else json.dumps({rng.choice(("result", "value", head.split("_")[-1])): value}, ensure_ascii=False)
        )
        return raw, self.put(self.kind.say[lang].replace("{r}", value))


AnyTool: TypeAlias = WeatherTool | SimpleTool


def draw_tools(rng: random.Random, weather_share: float = 0.62) -> tuple[AnyTool, list[Json]]:
    """The tool that will fit, and the list offered: it and up to two others, in any order."""
    main: AnyTool = WeatherTool(rng) if rng.random() < weather_share else SimpleTool(rng.choice(SIMPLE), rng)
    offered = [main.schema]
    taken = {main.name} | ({"weather"} if isinstance(main, WeatherTool) else set(main.kind.names))
    for _ in range(rng.choices((0, 1, 2), (60, 28, 12))[0]):
        other: AnyTool
        if "weather" not in taken and rng.random() < 0.35:
            other = WeatherTool(rng)
            taken.add("weather")
        else:
            other = SimpleTool(rng.choice(SIMPLE), rng)
            if other.kind.names[0] in taken or other.name in taken:
                continue
            taken |= set(other.kind.names)
        offered.append(other.schema)
    rng.shuffle(offered)
    return main, offered


def call_message(use: Use) -> Message:
    """The assistant message that makes the calls of ``use``."""
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": name, "arguments": arguments}} for name, arguments in use.calls],
    }


def conversation(lang: str, rng: random.Random) -> tuple[list[Message], list[Json]]:
    """A question, the call, and mostly its result and the answer."""
    main, offered = draw_tools(rng)
    use = main.use(lang, rng)
    messages: list[Message] = [{"role": "user", "content": use.question}, call_message(use)]
    if rng.random() < 0.3:
        return messages, offered
    if isinstance(main, WeatherTool):
        reports = []
        for (_, arguments), place in zip(use.calls, use.places, strict=True):
            raw, degrees, sky = main.result(arguments[main.place], lang, rng)
            messages.append({"role": "tool", "content": raw})
            reports.append(main.report(place, degrees, sky, lang))
        answer = " ".join(reports)
    else:
        raw, answer = main.result(rng, lang)
        messages.append({"role": "tool", "content": raw})
    messages.append({"role": "assistant", "content": answer})
    return messages, offered
