#!/usr/bin/env python3
"""Writes worker/tests/sentence_piece.gguf and .json: a small SentencePiece vocabulary, and the tokens of llama.cpp with it.

    pip install llama-cpp-python
    python scripts/reference_vocabulary.py

The vocabulary is made from the texts below: pieces of their words, with scores that fall with their rank, tokens for all bytes,
control tokens, and added tokens. It has no weights. The test worker/tests/model/vocabulary.rs compares our tokenizer with the
JSON file, which has the ids of every text with and without a space before the text and after control tokens.
"""

import collections
import json
import pathlib
import struct

import llama_cpp
from llama_cpp import Llama

TESTS = pathlib.Path(__file__).resolve().parent.parent / "worker/tests"
SPACE = "\u2581"
TEXT, UNKNOWN, CONTROL, ADDED, BYTE = 1, 2, 3, 4, 6

TRAINING_TEXT = """
The bees dance in the hive because they have found the flowers, and the other bees watch the dance and fly there themselves.
A worker takes a job from the queue and gives the answer back; when it dies, another worker goes on with the same answer.
Die Bienen tanzen im Stock, weil sie die Blumen gefunden haben, und die anderen sehen zu und fliegen selbst dorthin.
Les abeilles dansent dans la ruche parce qu'elles ont trouvé les fleurs, et les autres regardent la danse.
Las abejas bailan en la colmena porque han encontrado las flores, y las otras miran el baile y vuelan allí.
Пчёлы танцуют в улье, потому что они нашли цветы, и другие пчёлы смотрят на танец и летят туда сами.
蜜蜂在蜂巢里跳舞，因为它们找到了花，其他蜜蜂看着舞蹈，然后自己飞过去。 ミツバチは花を見つけたので巣で踊ります。
if (value == 0) { return value + 1; } else { return value - 1; } def function(self, value): return self.value 10 100 1000
"""

TEXTS = [
    "",
    " ",
    "Hello, world! It's 2024-01-31 and I'LL pay $1,234,567.89 (≈ €1.2m).",
    "The bees dance in the hive because they have found the flowers.",
    "  leading, trailing  \n\n\tand\r\n  mixed   whitespace\n \n",
    "naïve café Привет, пчёлы! 蜂蜜 蜜蜂在跳舞 🐝🐝 ١٢٣ ½ Ⅷ e\u0301 \u00a0nbsp\u3000wide",
    "def f(x):\n    return x**2 + 10000 % 7 # don't\n\n\nclass A_b: pass\n\n\n\n\n\n",
    "<tag attr=\"v\">a<b && c>=d; x^y~z|w</tag> ...!!!??? --->",
    "<s> </s> <unk> <|user|> <|end|> <s><|user|>Obey.<|end|>",
    "<0x0A> <0x41> <0x> \\n",
    "\u2581already\u2581written\u2581 \u2581",
    "\x00\x01\x07\x1b[31m\x7f\u200b\u202e\ufeff\ufffd",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 مرحبا بالعالم नमस्ते दुनिया สวัสดี 안녕하세요 שלום",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa thethethethethe            x",
    "BEES bees BeEs bEEs.The.the,the;THE dance-dance_dance/dance",
    "<b>bold</b><br>line<b><b>",
    "\n",
    "\n\n\n",
    "a\n\nb\n\n\nc",
]

# Rendered prompts, in which control tokens are recognized.
PROMPTS = ["<s><|user|>The bees<|end|><|user|> dance<|end|>\n", "The<|user|><b> bees</s>in the hive", "<|end|>", "x<s>"]


def pieces():
    """Pieces of words in descending order of occurrences times length, then by text."""
    counts = collections.Counter()
    for word in TRAINING_TEXT.replace("\n", " ").split(" "):
        word = SPACE + word
        counts.update({word[i:j] for i in range(len(word)) for j in range(i + 1, min(i + 9, len(word)) + 1)})
    # Merging reaches a piece only if it consists of two others, each a piece or a character.
    useful = sorted(counts, key=lambda piece: (-counts[piece] * (len(piece) - 0.5), piece))
    chosen, known = [], set()
    for piece in useful[:6000]:
        if len(piece) == 1 or any({piece[:i], piece[i:]} <= known for i in range(1, len(piece))):
            known.add(piece)
            chosen.append(piece)
    return chosen[:1500]


def vocabulary():
    tokens = [("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0)]
    tokens += [("<|user|>", CONTROL, 0.0), ("<|end|>", CONTROL, 0.0)]
    tokens += [(f"<0x{byte:02X}>", BYTE, 0.0) for byte in range(256)]
    tokens += [(text, ADDED, -1000.0) for text in ["\n\n", "\n\n\n", "<b>", "  ", "   "]]
    # Three pieces each have the same score: of equal pairs, the first is merged first.
    tokens += [(piece, TEXT, -float(rank // 3)) for rank, piece in enumerate(pieces())]
    return tokens


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def gguf(tokens):
    count = {"block_count": 1, "context_length": 256, "embedding_length": 64, "feed_forward_length": 128,
             "attention.head_count": 4, "vocab_size": len(tokens)}
    keys = [entry("general.architecture", 8, text("llama"))]
    keys += [entry(f"llama.{key}", 4, struct.pack("<I", value)) for key, value in count.items()]
    keys += [
        entry("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        entry("tokenizer.ggml.model", 8, text("llama")),
        entry("tokenizer.ggml.tokens", 9, array(8, [text(token) for token, _, _ in tokens])),
        entry("tokenizer.ggml.scores", 9, array(6, [struct.pack("<f", score) for _, _, score in tokens])),
        entry("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", kind) for _, kind, _ in tokens])),
        entry("tokenizer.ggml.unknown_token_id", 4, struct.pack("<I", 0)),
        entry("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        entry("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2)),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)
    return header + b"\0" * (-len(header) % 32)


def ids(path, spaces):
    overrides = {"tokenizer.ggml.add_space_prefix": spaces}
    model = Llama(str(path), vocab_only=True, verbose=False, kv_overrides=overrides)
    return {
        "texts": [model.tokenize(text.encode(), add_bos=False, special=False) for text in TEXTS],
        "prompts": [model.tokenize(prompt.encode(), add_bos=prompt[:3] != "<s>", special=True) for prompt in PROMPTS],
    }


def main():
    path = TESTS / "sentence_piece.gguf"
    path.write_bytes(gguf(vocabulary()))
    lines = {
        "written_by": f"scripts/reference_vocabulary.py with llama-cpp-python {llama_cpp.__version__}",
        "texts": TEXTS,
        "prompts": PROMPTS,
        "with_space": ids(path, True),
        "without_space": ids(path, False),
    }
    parts = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items()]
    (TESTS / "sentence_piece.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
