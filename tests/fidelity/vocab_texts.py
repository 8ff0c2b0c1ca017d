"""Texts that tokenizers stumble over, and a corpus to train small ones on that know some of them."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator

LANGUAGES = (
    "The quick brown fox jumps over the lazy dog, and it's twelve o'clock; we'll see what they've done.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, ÄÖÜß.",
    "Portez ce vieux whisky au juge blond qui fume; l'été à Noël, où ça? C'est déjà l'hiver.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío, ¿añoraba a su querido cachorro?",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Жёлтый ёж.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Τί κάνεις σήμερα;",
    "我想在apple工作1314151天~ 今天的天气很好,我们去公园散步吧。",
    "いろはにほへと ちりぬるを。カタカナとひらがな、漢字を混ぜて書きます。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق.",
    "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Muốn tìm hiểu tiếng Việt thì phải biết dấu: ạảãàá âậấẩẫầ ăắặằẳẵ.",
    "កាន់តែពិសេសអាច យើងខ្ញុំ",
    "বাংলা ভাষায় লেখা একটি বাক্য।",
)

HARD = (
    *LANGUAGES,
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t\n",
    "Hello world",
    " Hello world",
    "Hello World",
    " Hello World!",
    "Hello, world!",
    " Hello, world!",
    "Hello",
    "  Hello",
    "   Hello",
    "    Hello",
    "    Hello\n    Hello",
    "Hello  ",
    "Hello \n",
    "a  b   c    d     e",
    "\n =",
    "' era",
    "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
    "!!!!!!",
    "...---...",
    "3", "33", "333", "3333", "33333", "333333", "3333333", "33333333", "333333333",
    "3.3 3..3 3...3 1,234,567.89 0x1F 1e-10 ½ ²³ ١٢٣ Ⅷ 一二三",
    "I've been 'told he's there, 'RE you sure? 'M not sure I'LL make it, 'D you like some tea? We'Ve a'lL DON'T",
    "camelCaseWord PascalCase SCREAMING_SNAKE kebab-case HTMLParser iPhone XMLHttpRequest",
    "def f(x: int = 3) -> str:\n\treturn f\"{x!r}\"  # comment\n\n\nclass A(B):\n    pass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; } // done\r\n",
    '{"key": [1, 2.5, null, true], "nested": {"a": "\\n"}}',
    "<html><body class=\"x\">&nbsp;</body></html> https://example.com/path?q=1&r=2#frag user@example.com",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n  - nested\n    1. deep\n",
    "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙 👩‍👩‍👧‍👦 🇩🇪🇫🇷 👍🏽",
    "e\u0301 a\u0308 n\u0303 o\u0302\u0301 \u0301alone Z\u0351\u036b\u0343a\u0337l\u0322go",
    "ﬁ ﬂ Ａｂｃ １２３ ㎏ ™ © № ℃ ㊗",
    "a\u00a0b\u2003c\u3000d\u200be\u2028f\u2029g\u202fh\ufeffi",
    "\u0000x\u0001y\u0007z\u001b[31mred\u001b[0m\u007f",
    "x\ufffdy\U0001f9ff\U000e0041\U0010ffff",
    "\r\n\r\nline\r\nline\rline",
    "a\n b\n  c\n   d\n\te\n \tf",
    "        eight spaces and\t\ttabs \t mixed \t\t \n \n  \n   \n    end",
    "“quotes” ‘single’ — dash – en … dots «guillemets» „low“ ¿¡",
    "αβγ∑∫√∞≠≤≥±×÷ ∀x∈ℝ: x²≥0 → ⇒ ↔ ⊂ ∅",
    "ǅ ǈ ß ẞ İ ı ſ K Å Ω ﬀ ŉ",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ababababababababababababababababab = == === ==== ===== ======",
    "______ ------ ****** ###### ////// \\\\\\\\\\\\ \"\"\"\"\"\" ''''''",
    "\u2581literal\u2581marks \u2581",
    "Ġliteral Ċ marks Ġ",
    "<0x41><0x0A> ##ing ## [PAD5]",
    "mixedщcyrillicабвlatin漢字kanaカナ한글",
    "नि कि कौ ക്ഷ ต้น ໜ ខ្ញុំ",
    "a\u200d\u200cb \u0915\u094d\u200d\u0937",
    "Tabs\tbetween\twords\t\tand trailing\t",
    "end with newline\n",
    "end with spaces   ",
    "\n leading newline",
    "don't stop; it's John's, they're we'd I'm you'll",
    "1st 2nd 3rd 4th 21st-century 2024-01-31T12:34:56Z +49 (0)30 123-456",
)  # fmt: skip


def with_specials(*tokens: str) -> Iterator[str]:
    """Special tokens inside texts, with spaces and lines around, doubled, and cut off."""
    for token in tokens:
        yield token
        yield f"{token}user\nHello{token}\n"
        yield f"a{token}b"
        yield f"a {token} b"
        yield f"{token}{token}"
        yield f"  {token}  x"
        yield f"\n{token}\n\nx"
        yield token[:-1]


def corpus() -> list[str]:
    """Some hundred thousand characters: several languages, prose, and code."""
    code = [inspect.getsource(module) for module in (ast, inspect, json, re, textwrap)]
    prose = [line for text in code for line in text.splitlines()]
    return [*(LANGUAGES * 40), *prose, *code]
