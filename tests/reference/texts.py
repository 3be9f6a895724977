"""The texts of every kind that vectors are recorded for, by name.

PostgreSQL's `text` holds every character here; it has no U+0000.
"""

# ruff: noqa: RUF001  (letters that look alike are the point)

PARAGRAPH = (
    "The cat sat on the mat. It was a warm afternoon, and nobody had told it about the dog that "
    "lived next door: a large, friendly animal who liked to make new friends. When they first met, "
    "each of them looked at the other for a long time, then both walked away in silence."
)
CODE = (
    "def f(x):\n\tif x != 0:  # not zero\n\t\treturn {'a': [1, 2.5e-3], \"b\": x**2}\n\treturn None"
)
FAMILY_EMOJI = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"

TEXTS: dict[str, str] = {
    "empty": "",
    "one letter": "a",
    "one capital": "Q",
    "one digit": "7",
    "full stop": ".",
    "space": " ",
    "whitespace only": " \t\n\r\x0b\x0c   ",
    "unicode whitespace only": "\u00a0\u2003\u3000\u2028\u1680",
    "many spaces": " " * 5000,
    "short": "hello world",
    "leading and trailing spaces": "   the   number   ",
    "newlines and tabs": "one\ntwo\r\nthree\tfour\n\n\nfive",
    "uppercase": "WHICH FUNCTION ROUNDS A NUMBER DOWN?",
    "mixed case": "iPhone McDonald eBay ÀÉÎ ŠŽ İstanbul ẞ ΣΟΦΟΣ ǅ",
    "paragraph": PARAGRAPH,
    "numbers": "3.14159 1,000,000 0x1F -42 1e-9 ²³ ½ Ⅷ 十二 ١٢٣ १२३",
    "punctuation": "!?...;:()[]{}<>@#$%^&*-_=+~`'\"\\/|«»„“”‘’–—…¿¡§¶†‡•",
    "code": CODE,
    "address": "mail bob@example.org or see https://example.org/a?b=c&d=e#f, 12:30, $5.00",
    "emoji": "I \u2764\ufe0f pizza \U0001f355\U0001f355 \U0001f600!",
    "emoji alone": "\U0001f680",
    "emoji joined": FAMILY_EMOJI + " \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "hebrew": "שלום עולם, זה מבחן",
    "arabic": "السَّلَامُ عَلَيْكُمْ يا عالم",
    "mixed direction": "abc אבג 123 \u202bעברית\u202c def",
    "chinese": "今天天气很好，我们去公园散步。",
    "japanese": "東京は日本の首都です。カタカナもあります。",
    "korean": "안녕하세요 세계 한국어",
    "korean parts": "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "cyrillic": "Съешь ещё этих мягких французских булок",
    "greek": "Ο ΣΟΦΟΣ λέγει· φῶς",
    "devanagari": "नमस्ते दुनिया, यह एक परीक्षण है",
    "thai": "สวัสดีชาวโลก",
    "vietnamese": "Tiếng Việt rất đẹp",
    "accents composed": "café naïve Ångström über",
    "accents combining": "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "accents piled": "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034fa\u0334\u0319\u0324l\u0349g",
    "ligatures and width": "\ufb01nance \uff28\uff25\uff2c\uff2c\uff2f \u2460 \u2122 \u212b \ufdfa",
    "zero width": "zero\u200bwidth\u200cnon\u200djoiner\ufeffmark\u2060word\u00adsoft",
    "control characters": "a\x01b\x02\x1fc\x7fd\x85e\x1b[31mred",
    "private and unassigned": "\ue000\uf8ff \U000e0001 \U0010ffff \ufffd \ufffe",
    "rare planes": "\U00010348 \U0001d54f \U00020000 \U0002a6d6",
    "bert specials": "[CLS] hello [SEP] [MASK] world [PAD] [UNK]",
    "roberta specials": "<s> hello </s> <mask> world <pad> <unk>",
    "all specials": "[SEP] <pad> <mask> </s>",
    "specials touching": "x[SEP]y<pad>z <mask>w </s>.[PAD]<pad><pad> end",
    "special alone": "<pad>",
    "almost specials": "[sep] <PAD> < mask > [ MASK ] <s>NOTUSED ##ing \u2581the \u0120the",
    "word of 100 letters": "a" * 100 + " end",
    "word of 101 letters": "a" * 101 + " end",
    "word of 5000 letters": "pneumono" * 625,
    "word of 5000 capitals": "X" * 5000,
    "accents on one letter": "e" + "\u0301" * 5000,
    "word of 5000 ideographs": "中" * 5000,
    "words and a long word": "it is " + "ab" * 2500 + " after all",
    "3000 words": " ".join(["the", "little", "number", "of", "people"] * 600),
    "long without spaces": "one,two;" * 500,
    "long with newlines": "a line of text\n" * 300,
    "long with specials": "[SEP]<pad>x</s>" * 300,
    "long text after spaces": " " * 20000 + "the end of it",
    "long text behind emoji": "\U0001f600" * 400 + " and then words",
    "one under the limit": " ".join(["word"] * 125),
    "at the limit": " ".join(["word"] * 126),
    "just over the limit": " ".join(["word"] * 127),
    "paragraphs": "\n\n".join([PARAGRAPH] * 6),
}

# What a few further readings are recorded for: token embeddings, prompts, cuts on the other side.
SOME = ("empty", "short", "leading and trailing spaces", "emoji", "specials touching", "paragraphs")
SHORT = ("one letter", "short", "accents combining", "specials touching")

# Longer than what the database hands over at once, with something beyond that matters or must not.
LONG: dict[str, str] = {
    "one long word": "pneumono" * 12500,
    "nothing, then words": "\u200b" * 30000 + " " * 30000 + "the end of it",
    "accents without end": "e" + "\u0301" * 40000 + " and so on",
    "words, then a special": "the " * 20000 + "number <mask>[SEP]",
    "one letter that is eighteen": "\ufdfa" * 25000,
    "paragraphs of all kinds": "\n".join([*TEXTS.values()] * 2),
}

# What heads are asked: texts with a mask, and documents to rank, one of them over the limit.
MASKED = ("The cat MASK on the mat.", "MASK was a warm MASK", "the " * 40 + "MASK")
QUERY = "where did the cat sit?"
DOCUMENTS = (
    PARAGRAPH,
    "",
    "the mat",
    " ".join([PARAGRAPH] * 6),
    "[SEP]<pad>x</s>",
    "\u6771\u4eac \U0001f600",
    " ".join(["word"] * 119),
    " ".join(["word"] * 120),
    " ".join(["word"] * 121),
)

# What late interaction is asked: what documents leave out, and numbers of words around the lengths
# that the tiny models have for queries and documents.
AROUND = (*range(9, 17), 27, 28, 29, 34, 35, 36, 40, 41, 42, 46, 47, 48)
LATE = (
    *(TEXTS[name] for name in ("short", "empty", "full stop", "punctuation", "bert specials")),
    *(TEXTS[name] for name in ("mixed case", "uppercase", "paragraph")),
    *(" ".join(["word"] * count) for count in AROUND),
)
