# ruff: noqa: E501
"""Fillers: people, cities and things, real and made up.

The made-up ones matter most. A model that sees a thousand different cities once cannot learn them by heart; it has to
learn to copy, and then it also copies a city it has never seen.
"""

from __future__ import annotations

import random

PEOPLE = {
    "en": ["Anna", "Bob", "Carol", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Liam", "Mary", "Nina", "Oscar", "Paul", "Rose", "Sam", "Tom", "Victor", "Wendy", "Zoe", "Alice", "Peter", "John", "Lucy", "Max", "Ella", "George", "Ruth"],
    "es": ["Ana", "Bruno", "Carmen", "Diego", "Elena", "Felipe", "Gloria", "Hugo", "Inés", "Javier", "Lucía", "Mario", "Nuria", "Pablo", "Raquel", "Sergio", "Teresa", "Valeria", "José", "Marta", "Luis", "Sofía", "Carlos", "Pilar"],
    "ru": ["Анна", "Борис", "Вера", "Глеб", "Дарья", "Егор", "Женя", "Зоя", "Иван", "Катя", "Лев", "Мария", "Никита", "Ольга", "Пётр", "Роман", "Света", "Тимур", "Юлия", "Яна", "Алексей", "Наташа", "Сергей", "Маша", "Дима"],
}
CITIES = {
    "en": ["Paris", "London", "Berlin", "Madrid", "Rome", "Tokyo", "New York", "San Francisco", "Boston", "Chicago", "Toronto", "Sydney", "Moscow", "Dublin", "Vienna", "Prague", "Lisbon", "Oslo", "Cairo", "Mumbai", "Beijing", "Seoul", "Los Angeles", "Seattle", "Miami", "Denver", "Austin", "Amsterdam", "Athens", "Geneva", "Munich", "Barcelona", "Singapore", "Bangkok", "Dallas", "Portland", "Manchester", "Glasgow", "Milan", "Zurich"],
    "es": ["Madrid", "Barcelona", "Sevilla", "Valencia", "Bogotá", "Lima", "Quito", "París", "Londres", "Roma", "Berlín", "Ciudad de México", "Buenos Aires", "Santiago", "Montevideo", "La Habana", "Granada", "Bilbao", "Málaga", "Zaragoza", "Caracas", "Moscú", "Tokio", "Nueva York", "Lisboa", "Toledo", "Murcia", "Córdoba", "Cartagena", "Medellín"],
    "ru": ["Москва", "Лондон", "Берлин", "Париж", "Рим", "Мадрид", "Казань", "Самара", "Омск", "Томск", "Пермь", "Тула", "Сочи", "Токио", "Рязань", "Тверь", "Уфа", "Калининград", "Волгоград", "Новосибирск", "Красноярск", "Иркутск", "Киров", "Псков", "Минск", "Прага", "Вена", "Варшава", "Пекин", "Осло", "Мурманск", "Владивосток", "Санкт-Петербург", "Челябинск", "Воронеж", "Саратов", "Ростов", "Краснодар", "Барселона", "Нью-Йорк"],
}
_IN_RU = {"Рим": "Риме", "Томск": "Томске", "Пермь": "Перми", "Казань": "Казани", "Рязань": "Рязани", "Тверь": "Твери"}

_ONSETS = {
    "en": ["b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pl", "qu", "r", "s", "sh", "sk", "st", "str", "t", "th", "tr", "v", "w", "z"],
    "es": ["b", "br", "c", "ch", "d", "f", "g", "gr", "h", "j", "l", "ll", "m", "n", "ñ", "p", "pl", "qu", "r", "s", "t", "tr", "v", "z"],
    "ru": ["б", "бр", "в", "вр", "г", "гр", "д", "др", "ж", "з", "к", "кл", "кр", "л", "м", "н", "п", "пл", "пр", "р", "с", "сл", "ст", "т", "тр", "ф", "х", "ч", "ш"],
}
_VOWELS = {"en": ["a", "e", "i", "o", "u", "ee", "oo", "ai", "ea", "ou"], "es": ["a", "e", "i", "o", "u", "ia", "ue"], "ru": ["а", "е", "и", "о", "у", "ы", "я", "ю"]}
_ENDS = {
    "en": [" ", " ", "n", "r", "l", "m", "s", "t", "ck", "nd", "rk", "x", "p", "sh", "lt"],
    "es": [" ", " ", " ", "n", "r", "l", "s"],
    "ru": [" ", " ", "н", "р", "л", "м", "с", "т", "к", "й", "п", "в"],
}
_CITY_ENDS = {
    "en": ["ton", "ville", "burg", "ford", "ham", "port", "field", "by", "chester", "land", "a", "o", "i", "stad", "pur", "grad", "holm", "wick", "dale", "mouth"],
    "es": ["a", "o", "illa", "ar", "al", "ejo", "osa", "és", "uela", "ón", "era", "ín", "ales"],
    "ru": ["ск", "град", "ово", "ино", "бург", "поль", "ка", "ль", "ня", "ск", "ов", "ец", "а", "ра"],
}


def invented_word(lang: str, rng: random.Random, syllables: int | None = None) -> str:
    """A word that means nothing, in the sounds of the language."""
    count = syllables or rng.choices((1, 2, 3, 4), (15, 45, 30, 10))[0]
    parts = [rng.choice(_ONSETS[lang]) + rng.choice(_VOWELS[lang]) for _ in range(count)]
    return "".join(parts) + rng.choice(_ENDS[lang]).strip()


def person(lang: str, rng: random.Random) -> str:
    """A first name, known or invented."""
    return rng.choice(PEOPLE[lang]) if rng.random() < 0.4 else invented_word(lang, rng).capitalize()


def city(lang: str, rng: random.Random) -> tuple[str, str]:
    """A city and its form after "in": the same in English and Spanish, the prepositional case in Russian."""
    if rng.random() < 0.45:
        name = rng.choice(CITIES[lang])
    else:
        name = (invented_word(lang, rng, rng.choice((1, 2, 2, 3))) + rng.choice(_CITY_ENDS[lang])).capitalize()
        if lang != "ru" and rng.random() < 0.12:
            name = f"{rng.choice(('San', 'New', 'Port', 'Saint', 'El', 'Santa', 'Los'))} {name}"
    return name, (name if lang != "ru" else prepositional(name))


def prepositional(name: str) -> str:
    """Москва → Москве, Омск → Омске, Сочи → Сочи: enough grammar for the names used here."""
    if name in _IN_RU:
        return _IN_RU[name]
    if name.endswith(("а", "я")):
        return name[:-1] + "е"
    if name.endswith("ь"):
        return name[:-1] + "и"
    if name.endswith("ец"):
        return name[:-2] + "це"
    if name.endswith("й"):
        return name[:-1] + "е"
    return name if name[-1] in "оеиуыюэ" else name + "е"


THINGS = {
    "en": ["quantum computing", "the French Revolution", "cooking pasta", "football", "the stock market", "Napoleon", "jazz music", "volcanoes", "dinosaurs", "chess", "the Roman Empire", "tigers", "coffee", "yoga", "taxes", "Rust", "Kubernetes", "blockchain", "bitcoin", "the human heart", "Shakespeare", "whales", "climate change", "vaccines", "inflation", "marketing", "the Eiffel Tower", "ancient Egypt", "guitars", "gardening", "penguins", "the Pacific Ocean", "elections", "philosophy", "Plato", "Mozart", "a prime number", "matrices", "calculus", "the Bible", "yoghurt", "bicycles", "a black swan", "the Cold War", "tennis", "vitamins", "insurance", "a mortgage", "the immune system", "bread", "cheese", "dragons", "the Moon landing", "Harry Potter", "my cat", "trains", "rockets", "the brain", "dreams", "mushrooms", "bees", "love", "time travel", "magnets", "electricity", "concrete", "a violin", "glaciers", "deserts", "Java", "C++", "Go", "TypeScript", "React", "Django", "Spark", "Excel", "PowerPoint", "Photoshop", "cancer", "diabetes", "headache", "aspirin", "the president", "the king of Spain", "Madonna", "the Beatles", "Brazil's economy", "sharks", "opera", "soil", "salt", "gold", "diamonds", "an engine", "a nuclear reactor", "a mitochondrion", "enzymes", "a sonnet", "democracy", "capitalism", "Marx", "Kant", "Antarctica", "hurricanes", "earthquakes", "tides", "a comet", "Saturn", "the Milky Way", "an octopus", "a haircut", "a wedding", "paella", "sushi", "tea", "wine", "beer", "a tax return", "a passport", "the weather on Mars", "Bayes' theorem", "entropy", "a transistor", "radar", "lasers"],
    "es": ["la computación cuántica", "la Revolución francesa", "cocinar pasta", "el fútbol", "la bolsa", "Napoleón", "el jazz", "los volcanes", "los dinosaurios", "el ajedrez", "el Imperio romano", "los tigres", "el café", "el yoga", "los impuestos", "Rust", "Kubernetes", "blockchain", "bitcoin", "el corazón humano", "Cervantes", "las ballenas", "el cambio climático", "las vacunas", "la inflación", "el marketing", "la torre Eiffel", "el antiguo Egipto", "las guitarras", "la jardinería", "los pingüinos", "el océano Pacífico", "las elecciones", "la filosofía", "Platón", "Mozart", "los números primos", "las matrices", "el cálculo", "la Biblia", "el yogur", "las bicicletas", "la guerra fría", "el tenis", "las vitaminas", "los seguros", "una hipoteca", "el sistema inmunitario", "el pan", "el queso", "los dragones", "Harry Potter", "mi gato", "los trenes", "los cohetes", "el cerebro", "los sueños", "las setas", "las abejas", "el amor", "los imanes", "la electricidad", "el violín", "los glaciares", "Java", "C++", "TypeScript", "Excel", "el cáncer", "la diabetes", "la aspirina", "el presidente", "el rey de España", "los tiburones", "la ópera", "la sal", "el oro", "los diamantes", "un motor", "una central nuclear", "las enzimas", "la democracia", "el capitalismo", "la Antártida", "los huracanes", "los terremotos", "Saturno", "los pulpos", "la paella", "el vino", "la cerveza", "un pasaporte", "la entropía", "un transistor", "el radar", "el láser", "la tortilla", "el flamenco", "Don Quijote"],
    "ru": ["квантовые компьютеры", "Французская революция", "макароны", "футбол", "фондовый рынок", "Наполеон", "джаз", "вулкан", "динозавры", "шахматы", "Римская империя", "тигр", "кофе", "йога", "налоги", "Rust", "Kubernetes", "блокчейн", "биткоин", "сердце человека", "Пушкин", "киты", "изменение климата", "вакцина", "инфляция", "маркетинг", "Эйфелева башня", "Древний Египет", "гитара", "садоводство", "пингвины", "Тихий океан", "выборы", "философия", "Платон", "Моцарт", "простые числа", "матрица", "интеграл", "Библия", "йогурт", "велосипед", "холодная война", "теннис", "витамины", "страховка", "ипотека", "иммунитет", "хлеб", "сыр", "драконы", "Гарри Поттер", "мой кот", "поезда", "ракета", "мозг", "сны", "грибы", "пчёлы", "любовь", "магнит", "электричество", "скрипка", "ледник", "Java", "C++", "TypeScript", "Excel", "рак", "диабет", "аспирин", "президент", "акулы", "опера", "соль", "золото", "алмаз", "двигатель", "атомная станция", "фермент", "демократия", "капитализм", "Антарктида", "ураган", "землетрясение", "Сатурн", "осьминог", "борщ", "пельмени", "вино", "пиво", "паспорт", "энтропия", "транзистор", "радар", "лазер", "балет", "Толстой", "Достоевский", "самовар"],
}


def unknown_thing(lang: str, rng: random.Random) -> str:
    """Something the model has no answer for."""
    if rng.random() < 0.6:
        return rng.choice(THINGS[lang])
    word = invented_word(lang, rng, rng.choice((2, 3, 3, 4)))
    if rng.random() < 0.35:
        word = f"{word} {invented_word(lang, rng)}"
    if rng.random() < 0.4:
        word = word.title()
    article = {"en": ("", "", "a ", "the "), "es": ("", "", "el ", "la ", "un "), "ru": ("",)}[lang]
    return rng.choice(article) + word
