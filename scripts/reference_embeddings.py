#!/usr/bin/env python3
"""Writes worker/tests/reference/embeddings.json: vectors by sentence-transformers, with which the encoder is compared.

    make setup
    python3 -m venv FOLDER && FOLDER/bin/pip install sentence-transformers
    FOLDER/bin/python scripts/reference_embeddings.py

Run it again only if the model or a list below changes. The file names the versions that wrote it.

texts: each text with the ids of its tokens, and its vector as base64 of little-endian 32-bit floats.
pooled: vectors of some texts before normalization, pooled by the first token and by the mean.
"""

import base64
import json
import pathlib

import numpy
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / ".tools/models/all-MiniLM-L6-v2"
OUTPUT = ROOT / "worker/tests/reference/embeddings.json"
STORY = (ROOT / "worker/tests/reference/text.txt").read_text(encoding="utf-8")

TEXTS = [
    "This is an example sentence.",
    "Each sentence is converted.",
    "a",
    "",
    " ",
    "\n\t \r\n",
    "!?",
    "Bees dance to tell each other where the flowers are.",
    "Honigbienen tanzen, um einander zu sagen, wo die Blumen stehen.",
    "Was heißt „Honigbiene“ auf Französisch? 🐝 蜂蜜 café naïve Привет 1,234.56 €",
    "ÉCOLE École e\u0301cole ecole",
    "蜂蜜は甘い。꿀은 달다. العسل حلو",
    "👩‍👩‍👧 👍🏽 🐝🐝🐝",
    "[CLS] A text may not write [SEP] tokens of the model [PAD] [MASK] itself. [UNK]",
    "control \x00 \x07 \u200b \u202e \ufeff characters \ufffd",
    "SELECT name, age FROM users WHERE age >= 21 AND name LIKE 'B%';",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    "Pneumonoultramicroscopicsilicovolcanoconiosis " + "x" * 120 + " supercalifragilisticexpialidocious",
    "buzz " * 253,
    "buzz " * 254,
    "buzz " * 255,
    " ".join(STORY.split()[:120]),
    " ".join(STORY.split()[:240]),
    STORY[:4000],
    "1 2 3 4 5 6 7 8 9 10 " * 60,
]
POOLED = [0, 2, 3, 9, 22]


def to_base64(vector):
    return base64.b64encode(numpy.asarray(vector, dtype="<f4").tobytes()).decode()


def main():
    torch.set_num_threads(1)
    model = SentenceTransformer(str(MODEL), device="cpu")
    # One text at a time, so that its vector does not depend on a batch.
    texts = []
    for text in TEXTS:
        ids = model.preprocess([text])["input_ids"][0].tolist()
        texts.append({"text": text, "tokens": ids, "vector": to_base64(model.encode(text))})
    pooled = []
    for index in POOLED:
        features = model.preprocess([TEXTS[index]])
        states = model[0](features)["token_embeddings"][0].detach()
        pooled.append({"index": index, "first": to_base64(states[0]), "mean": to_base64(states.mean(dim=0))})
    lines = lambda entries: ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries)  # noqa: E731
    written_by = f"scripts/reference_embeddings.py with sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
    OUTPUT.write_text(
        f'{{\n "written_by": {json.dumps(written_by)},\n "model": {json.dumps(MODEL.name)},\n'
        f' "texts": [\n{lines(texts)}\n ],\n "pooled": [\n{lines(pooled)}\n ]\n}}\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
