#!/usr/bin/env python3
"""Writes the tokenizer's reference data, with Hugging Face transformers/tokenizers as the oracle.

    make_tokenizer_reference.py             tests/data/tokenizer/{corpus,decode}.jsonl
    make_tokenizer_reference.py --classes   src/text/unicode_classes.cpp
    make_tokenizer_reference.py --nfkc      src/text/unicode_{decompositions,marks}.cpp, tests/data/tokenizer/nfkc.jsonl

    make_tokenizer_reference.py --galactica tests/data/tokenizer/galactica.jsonl

corpus.jsonl: {"text", "opt": ids, "demo": ids}, ids without the leading "</s>" (its presence is checked here).
decode.jsonl: {"vocab": "opt"|"demo", "ids", "text", "skipped"}: decoded with special tokens, and with them left out.
The data of the repository was made with transformers 5.24 and tokenizers 0.23.
"""

import argparse
import json
import pathlib
import random
import shutil
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/data/tokenizer"
# The tokenizer_config.json of the published OPT models, in short.
OPT_CONFIG = {
    "tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False, "errors": "replace",
    "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>",
}


def load_opt():
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(OUT / "opt" / name, folder)
        pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(OPT_CONFIG))
        return AutoTokenizer.from_pretrained(folder)


def load_demo():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ROOT / "configs/demo-model")


# ---- the corpus -----------------------------------------------------------------------------------------------

SPACES = [chr(c) for c in (0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
                           0x202F, 0x205F, 0x3000)]
NEARLY_SPACES = [chr(c) for c in (0x0, 0x7, 0x8, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F, 0x80, 0x84, 0x86, 0x9F, 0xAD, 0x34F,
                                  0x61C, 0x115F, 0x180B, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x2060, 0x2063, 0x2800,
                                  0x3164, 0xFEFF, 0xFFA0, 0xE0020)]
LITERALS = ["</s>", "<pad>", "<s>", "<unk>", "<mask>", "<|endoftext|>", "madeupword0000", "< /s>", "</s", "/s>", "<pad", "</S>"]

PLAIN = [
    "", " ", "  ", "a", " a", "A photo of a cat", "Hello, world!", "Hello  world", "Hello   world   ", "   leading",
    "The quick brown fox jumps over the lazy dog.", "tabs\tand\t\ttabs\t", "\tx", " \tx", "\t x", "  \t  x",
    "line\nline", "line\r\nline\r\n", "\r\n\r\n", "\n\n\nx", "x\n\n\n", "a\n b", "a \nb", "a \n b", "a\n\n  b", "\r\r\n\n\r",
    "for (int i = 0; i < n; ++i) {\n    sum += a[i];\n}\n", "def f(x):\n\treturn x**2  # square\n",
    "https://example.org/a/b?c=d&e=%20f#g", "user@example.com", "C:\\Users\\x\\y.txt", "a_b__c", "___", "--- ... !!!",
    "x=1,y=-2.5e-10", "1,234,567.89", "3.14159265358979", "12 345", "1st 2nd 3rd", "a1b2c3", "№1", "½ ¾ ⅓ ² ³ ₄ ①②⑳",
    "I'm you're we've they'll he'd it's don't can't", "I'M YOU'RE WE'VE THEY'LL HE'D IT'S DON'T", "I\u2019m don\u2019t",
    "'s't're've'm'll'd", "'S'T'RE", "' s ' t", " 's 't", "''s", "'''", "'sx 'tx 'rex 'llama", "x's's's", "'r 'v 'l", "rock'n'roll",
    "l'été, c'est l'été", "'\u0301s", "o'clock\t's\n't", "1's 2'd 3'll", "!'s", " ' 's",
    "\u00e9 e\u0301 \u00c5 A\u030a \u1e69 s\u0323\u0307", "a\u0301\u0302\u0303\u0304\u0305\u0306\u0307 b", "\u0301", " \u0301", "a \u0301b",
    "Z\u0351\u036b\u0343a\u0358l\u0320g\u0331o\u0347", "ﬁ ﬂ ﬀ ĳ Ǆ", "İstanbul ıI ß ẞ ſ", "Ὀδυσσεύς ἄνδρα μοι", "Привет, как дела?", "Ѣ ѳ Ꙗ ꙮ",
    "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "السَّلَامُ عَلَيْكُمْ", "فارسی می\u200cخواهم", "\u202eabc\u202c \u2067x\u2069 \u200fא\u200e", "١٢٣ ۴۵۶ ٪",
    "नमस्ते दुनिया", "क्षत्रिय र्\u200dक क्\u200cष", "१२३ ४५६", "ক্ষ বাংলা", "தமிழ் மொழி", "తెలుగు", "ಕನ್ನಡ", "മലയാളം ൧൨", "සිංහල", "ગુજરાતી ੴ ਪੰਜਾਬੀ",
    "สวัสดีชาวโลก", "ภาษาไทย ๑๒๓ น้ำ", "ພາສາລາວ", "မြန်မာဘာသာ ၁၂၃", "ភាសាខ្មែរ", "བོད་སྐད་ ༡༢༣",
    "你好，世界！", "中文 字符 和 English 混排123", "日本語のテキスト。カタカナ ﾊﾝｶｸ ＦＵＬＬ　ＷＩＤＴＨ　１２３", "々〆〇ヶ", "〇一二三 Ⅷ ⅻ ↀ", "𠮷野家 𠀀𪛖 𫝀 𬺡 𰀀 𲎰",
    "안녕하세요 세계", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\u1100\u1161\u11a8 \ua960\ud7b0\ud7cb", "ᠮᠣᠩᠭᠣᠯ\u180eᠠ", "ᚠᛇᚻ ᛒᛦᚦ", "ᏣᎳᎩ ꭰꮿ", "አማርኛ ፩፪፫", "ქართული Ⴀ Ა", "Հայերեն", "ⴰⵎⴰⵣⵉⵖ", "ߒߞߏ", "ꦗꦮ", "𐌰𐌱𐌲 𐤀𐤁 𒀀𒁀 𓀀𓁐", "𝐀𝒷𝔠 𝟘𝟙𝟚", "🄰🅰🆎 ⓐ㊙㍿",
    "😀", "😀😃😄", " 😀", "a😀b", "👍🏽 👩🏿\u200d🚀", "👨\u200d👩\u200d👧\u200d👦 👩\u200d❤️\u200d💋\u200d👨", "🏳️\u200d🌈 🏴\u200d☠️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🇩🇪🇫🇷🇺", "1️⃣ #️⃣ *⃣", "❤ ❤️ ☺︎", "🫠🫡🪿🫨🫩🪾", "¯\\_(ツ)_/¯", "(╯°□°）╯︵ ┻━┻",
    "∀x∈ℝ: x²≥0 ∧ ∑ᵢ₌₁ⁿ i", "∫₀^∞ e^{-x²} dx = √π⁄2", "→ ⇒ ↦ ⟶", "€ £ ¥ ₿ ₹", "“curly” ‘single’ «guillemets» „low“", "em—dash en–dash hyphen‐ minus−", "…", "†‡§¶•",
    "\u1c89\u1c8a \ua7cb\ua7da \U00010d50\U00010d70 \U000105c0 \U000323af \U0001e5d0 \U00016d70",  # letters and digits new in Unicode 15 and 16
    "\u0870 \u2c2f \ua7c0 \U00010f70 \U0001df00 \U00011240 \U00011f50 \U0001e4f0",
    "\ue000\uf8ff \U000f0000 \U0010fffd", "\ufffe \uffff \ufdd0 \U0001ffff \U0010ffff", "\u0378 \u0530 \U000e0001 \U000e01ef", "\ufffd\ufffc\ufff9",
    "\x00", "\x00\x01\x02\x03", "a\x00b", "\x1b[31mred\x1b[0m", "\x7f\x80\x9f", "\x1c\x1d\x1e\x1f", " \x1c a", "a\x1fb", "\x85 a\x85\x85b", "x\x0b\x0cy \x0b\x0c z",
    "a\u00a0b", "a\u00a0\u00a0b", " \u00a0b", "\u00a0 b", "\u2028a\u2029b", "a\u2028 b", "\u3000\u3000a", "a\u3000 b", "\ufeffBOM", "a\ufeffb \ufeff c", "\u180e a\u180e\u180eb", "a \u180e b",
    "a\u200bb \u200b c", "soft\u00adhyphen", "\u2060\u2061", "\u2800 \u2800", "ㅤ ﾠ",
    "</s>", "<pad>", "<s>", "<unk>", "<mask>", "a</s>b", "a </s> b", " </s> ", "</s></s>", "</s><pad></s>", "<pad> <pad>", "  <pad>\n\n<pad>  x", "x  </s>", "</s>  x", "<</s>>", "<</s>", "</s", "</s>>", "<pa<pad>d>",
    "</s>'s", "don</s>'t", "é</s>é", "</s>\u0301", "😀</s>😀", "<s>text</s>", "<|endoftext|>", "a<|endoftext|>b", "madeupword0000 madeupword0001", "</S> <PAD>", "< /s>", "<unk><unk>", "\u3000</s>\u3000",
    "Antidisestablishmentarianism", "Donaudampfschifffahrtsgesellschaftskapitän", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 300, "ab" * 150, " " * 300, " " * 299 + "x", "\n" * 200, "\n" * 200 + "x", "1" * 300, "!" * 300, "é" * 200, "的" * 150, "😀" * 80, "\u3000" * 100 + "a", "A" * 100 + "a" * 100, "the" * 100, "=" * 257, "-" * 128 + " " + "-" * 127, "0123456789" * 30, " x" * 200, "x " * 200,
    "qwertyuiopasdfghjklzxcvbnm" * 8, "aAbBcCdD" * 20, "\u0301" * 100, "ก็" * 60, "a\u200d" * 60, "</s>" * 20, "' " * 50, "'s" * 50,
]


def assigned_and_not(generator):
    """One random code point (no surrogate) from a block chosen with equal chance."""
    blocks = [(0x0, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x2B0, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x700, 0x8FF),
              (0x900, 0xDFF), (0xE00, 0x10FF), (0x1100, 0x137F), (0x1700, 0x18AF), (0x1C00, 0x1CFF), (0x1E00, 0x1FFF),
              (0x2000, 0x20CF), (0x2100, 0x23FF), (0x2460, 0x27BF), (0x2C00, 0x2E7F), (0x3000, 0x33FF), (0x4E00, 0x9FFF),
              (0xA000, 0xA82F), (0xA830, 0xABFF), (0xAC00, 0xD7FF), (0xE000, 0xE0FF), (0xF900, 0xFFFF), (0x10000, 0x10FFF),
              (0x11000, 0x12FFF), (0x13000, 0x18FFF), (0x1B000, 0x1DFFF), (0x1E000, 0x1EFFF), (0x1F000, 0x1FBFF),
              (0x20000, 0x323AF), (0xE0000, 0xE01FF), (0x10FF00, 0x10FFFF)]
    first, last = generator.choice(blocks)
    return chr(generator.randint(first, last))


def random_lines(generator):
    words = "the of and I'm don't It's flexible GPU OFFLOAD naïve 東京 мир שלום 2024 3.14 x+y=z foo_bar ... -- 😀 'll 's".split()
    kinds = [
        lambda: generator.choice(words),
        lambda: " " + generator.choice(words),
        lambda: generator.choice(SPACES) * generator.choice((1, 1, 1, 2, 3)),
        lambda: " " * generator.randint(1, 5),
        lambda: generator.choice(NEARLY_SPACES),
        lambda: generator.choice(LITERALS),
        lambda: assigned_and_not(generator),
        lambda: "'" + generator.choice("s t re ve m ll d S x".split()),
        lambda: generator.choice("!?.,;:-_()[]{}\"'/\\|@#$%^&*+=~`"),
        lambda: str(generator.randint(0, 10 ** generator.randint(1, 9))),
        lambda: "".join(generator.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(generator.randint(1, 12))),
    ]
    for _ in range(260):  # mixtures of everything
        yield "".join(generator.choice(kinds)() for _ in range(generator.randint(2, 16)))
    for _ in range(160):  # code points of all blocks, with and without spaces
        yield "".join(generator.choice(("", "", " ")) + assigned_and_not(generator) for _ in range(generator.randint(1, 14)))
    for space in SPACES + NEARLY_SPACES:  # each white space, and each look-alike, in every position
        yield f"a{space}b {space}c{space} d{space}{space}e {space} {space}{space}1{space}!{space}"


def make_corpus(opt, demo):
    generator = random.Random(20240501)
    lines = list(dict.fromkeys(PLAIN + list(random_lines(generator))))
    with open(OUT / "corpus.jsonl", "w", encoding="ascii") as out:
        for text in lines:
            row = {"text": text}
            for name, tokenizer in (("opt", opt), ("demo", demo)):
                ids = tokenizer(text).input_ids
                assert ids[0] == 2 and ids[1:] == tokenizer(text, add_special_tokens=False).input_ids
                row[name] = ids[1:]
            out.write(json.dumps(row, separators=(",", ":")) + "\n")


# ---- decoding -------------------------------------------------------------------------------------------------

def make_decode(opt, demo):
    generator = random.Random(7)
    with open(OUT / "decode.jsonl", "w", encoding="ascii") as out:
        for name, tokenizer in (("opt", opt), ("demo", demo)):
            vocabulary = tokenizer.get_vocab()
            raw = [i for token, i in vocabulary.items() if len(token) == 1 and ord(token) > 0x7E]  # bytes cut from characters
            broken = [i for i in vocabulary.values() if "\ufffd" in tokenizer.decode([i])]
            pools = [list(vocabulary.values()), raw, broken, broken + [0, 1, 2, 3]]
            emoji = [i for text in PLAIN for i in tokenizer(text).input_ids[1:60] if i in broken]
            rows = [[], [2], [2, 2], [0, 1, 2, 3], [len(tokenizer), 50000, 60000, 4], [2, 4, 2]]
            rows += [generator.choices(generator.choice(pools), k=generator.randint(1, 24)) for _ in range(200)]
            for _ in range(60):  # well-formed text cut anywhere
                ids = tokenizer(generator.choice(PLAIN)).input_ids
                rows.append(ids[generator.randrange(len(ids)):][:generator.randint(1, 30)])
                rows.append(generator.choices(emoji, k=generator.randint(1, 12)))
            for ids in rows:
                row = {"vocab": name, "ids": ids, "text": tokenizer.decode(ids),
                       "skipped": tokenizer.decode(ids, skip_special_tokens=True)}
                out.write(json.dumps(row, separators=(",", ":")) + "\n")


# ---- character classes ----------------------------------------------------------------------------------------

def make_classes():
    from tokenizers import pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def joins(before, character):
        return len(words.pre_tokenize_str(before + character)) == 1

    ranges = {"letter": [], "number": [], "whitespace": []}
    for code_point in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(code_point)
        kind = ("letter" if joins("a", character) else "number" if joins("1", character)
                else None if joins("!", character) else "whitespace")
        if kind is None:
            continue
        known = ranges[kind]
        if known and known[-1][1] == code_point - 1:
            known[-1][1] = code_point
        else:
            known.append([code_point, code_point])

    with open(ROOT / "src/text/unicode_classes.cpp", "w", encoding="ascii") as out:
        out.write('// Generated by tests/data/make_tokenizer_reference.py --classes; do not edit.\n'
                  '#include "text/unicode_classes.hpp"\n\nnamespace flexgen {\nnamespace {\n\n// clang-format off\n')
        for kind, known in ranges.items():
            out.write(f"constexpr CodePointRange {kind}s[] = {{\n")
            line = "   "
            for first, last in known:
                item = f" {{0x{first:X}, 0x{last:X}}},"
                if len(line) + len(item) > 120:
                    out.write(line + "\n")
                    line = "   "
                line += item
            out.write(line + "\n};\n\n")
        out.write("// clang-format on\n\n}  // namespace\n\n")
        for kind in ranges:
            out.write(f"std::span<const CodePointRange> {kind}_ranges() {{ return {kind}s; }}\n")
        out.write("\n}  // namespace flexgen\n")


# ---- Unicode's form NFKC ----------------------------------------------------------------------------------------

CODE_POINTS = (*range(0xD800), *range(0xE000, 0x110000))
HANGUL = range(0xAC00, 0xD7A4)


def hexadecimal(text):
    return " ".join(f"{ord(c):X}" for c in text)


def decomposition_items(nfkd):
    """Items in order: "A0=20" a code point's characters; the next ones "|..." ; runs "FF01+5E=21" of neighbours."""
    mapped = {c: nfkd(chr(c)) for c in CODE_POINTS if c not in HANGUL and nfkd(chr(c)) != chr(c)}
    items, known = [], sorted(mapped)
    at, before = 0, None
    while at < len(known):
        first = known[at]
        count = 1
        while (len(mapped[first]) == 1 and at + count < len(known) and known[at + count] == first + count
               and mapped[first + count] == chr(ord(mapped[first]) + count)):
            count += 1
        if count > 2:
            items.append(f";{first:X}+{count:X}={hexadecimal(mapped[first])}")
            before = None
        else:
            count = 1
            items.append(("|" if before == first - 1 else f";{first:X}=") + hexadecimal(mapped[first]))
            before = first
        at += count
    return items


def write_text_table(out, name, items):
    out.write(f"std::string_view {name}() {{\n  return\n")
    line = ""
    for item in items + [None]:
        if item is None or len(line) + len(item) > 108:
            out.write(f'      "{line}"{";" if item is None else ""}\n')
            line = ""
        line += item or ""
    out.write("}\n")


def mark_items(nfd):
    """Marks that the reference knows as such: it moves a mark of another class before or behind them."""
    import unicodedata

    def is_known(c):
        after, before = ("\u0301", chr(c)) if unicodedata.combining(chr(c)) == 1 else (chr(c), "\u0334")
        return nfd("a" + after + before) == "a" + before + after

    classes = {}
    for c in CODE_POINTS:
        if unicodedata.combining(chr(c)) and (nfd(chr(c)) != chr(c) or is_known(c)):
            classes.setdefault(unicodedata.combining(chr(c)), []).append(c)
    items = []
    for number, members in sorted(classes.items()):
        items.append(f";{number:X}=")
        at = 0
        while at < len(members):
            count = 1
            while at + count < len(members) and members[at + count] == members[at] + count:
                count += 1
            items.append(f"{members[at]:X}+{count:X} ")
            at += count
    return items


def pair_items(nfc):
    import unicodedata

    items = []
    for c in CODE_POINTS:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and "<" not in parts[0] and nfc("".join(chr(int(p, 16)) for p in parts)) == chr(c):
            items.append(f";{parts[0]} {parts[1]} {c:X}")
    return items


def make_nfkc():
    from tokenizers import normalizers

    nfkd, nfkc, nfc, nfd = (kind().normalize_str for kind in (normalizers.NFKD, normalizers.NFKC, normalizers.NFC,
                                                              normalizers.NFD))
    head = '// Generated by tests/data/make_tokenizer_reference.py --nfkc; do not edit.\n#include "text/nfkc.hpp"\n\nnamespace flexgen::unicode {\n\n// clang-format off\n'
    foot = "// clang-format on\n\n}  // namespace flexgen::unicode\n"
    with open(ROOT / "src/text/unicode_decompositions.cpp", "w", encoding="ascii") as out:
        out.write(head)
        write_text_table(out, "decompositions", decomposition_items(nfkd))
        out.write(foot)
    with open(ROOT / "src/text/unicode_marks.cpp", "w", encoding="ascii") as out:
        out.write(head)
        write_text_table(out, "combining_classes", mark_items(nfd))
        out.write("\n")
        write_text_table(out, "composed_pairs", pair_items(nfc))
        out.write(foot)
    generator = random.Random(20261130)
    marks = [chr(c) for c in (0x300, 0x301, 0x307, 0x323, 0x327, 0x338, 0x345, 0x5B0, 0x5B4, 0x64B, 0x93C, 0x94D, 0x3099, 0x1D165)]
    texts = list(dict.fromkeys(PLAIN + list(random_lines(generator))))
    for _ in range(150):
        texts.append("".join(assigned_and_not(generator) + "".join(generator.choices(marks, k=generator.randint(0, 4)))
                             for _ in range(6)))
    changed = "".join(chr(c) for c in CODE_POINTS if c not in HANGUL and nfkc(chr(c)) != chr(c))
    texts += [" ".join(changed[i::60]) for i in range(60)]
    with open(OUT / "nfkc.jsonl", "w", encoding="ascii") as out:
        for text in texts:
            if nfkc(text) != text:
                out.write(json.dumps({"text": text, "nfkc": nfkc(text)}, separators=(",", ":")) + "\n")


# ---- Galactica's words ------------------------------------------------------------------------------------------

def make_galactica():
    """OPT's vocabulary in a tokenizer.json of Galactica's form: galactica_parts.json and the vocabulary are all of it."""
    from transformers import AutoTokenizer

    parts = json.loads((OUT / "galactica_parts.json").read_text())
    vocab = json.loads((OUT / "opt" / "vocab.json").read_text())
    merges = (OUT / "opt" / "merges.txt").read_text().splitlines()[1:]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "vocab": vocab, "merges": merges}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tokenizer.json").write_text(json.dumps({"version": "1.0", "truncation": None, "padding": None,
                                                                      **parts, "model": model}))
        pathlib.Path(folder, "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        tokenizer = AutoTokenizer.from_pretrained(folder)
    generator = random.Random(3)
    texts = PLAIN + ["x\u00b2 x2 [START_REF] 1\u00bd", "aSPL1T-TH1S-Pl3A5EbSPL1T-TH1S-Pl3A5E", "f(x)[0]{1} !!?? --- ...a"]
    texts += [text for text in random_lines(generator) if generator.random() < 0.4]
    with open(OUT / "galactica.jsonl", "w", encoding="ascii") as out:
        for text in dict.fromkeys(texts):
            out.write(json.dumps({"text": text, "ids": tokenizer(text).input_ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", action="store_true", help="write the character classes instead")
    parser.add_argument("--galactica", action="store_true", help="write the ids of Galactica's words instead")
    parser.add_argument("--nfkc", action="store_true", help="write the tables of NFKC instead")
    if parser.parse_args().classes:
        make_classes()
    elif parser.parse_args().nfkc:
        make_nfkc()
    elif parser.parse_args().galactica:
        make_galactica()
    else:
        tokenizers_by_name = load_opt(), load_demo()
        make_corpus(*tokenizers_by_name)
        make_decode(*tokenizers_by_name)
