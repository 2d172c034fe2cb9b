#!/usr/bin/env python3
"""Writes worker/tests/reference_tokens.json: what llama.cpp makes of the test model.

    pip install llama-cpp-python
    python scripts/reference_tokens.py

The test worker/tests/model/reference.rs holds the candle engine against this file. It has to be written again only when the
test model or the list below changes; the file says which version wrote it.

chats: each with the ids of its rendered prompt, 64 greedy tokens, and for each of those the gap between the highest and
the second-highest logit: where the gap is tiny, another order of floating-point sums may choose the other token.
splits: the ids of the texts under each way of splitting (tokenizer.ggml.pre), all with the test model's vocabulary.
"""

import json
import os
import pathlib

import llama_cpp
import numpy
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = os.environ.get("RBEE_TEST_MODEL", str(ROOT / ".tools/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
OUTPUT = ROOT / "worker/tests/reference_tokens.json"
TOKENS = 64

CHATS = {
    "english": [("user", "Explain in three sentences why bees dance.")],
    "code": [("user", "Write a Python function that returns the n-th Fibonacci number:\n```python\ndef fib(n):\n")],
    "digits": [("user", "What is 12345 + 6789? Show each step: 12345 + 6000 = 18345, and so on.")],
    "unicode": [("user", "Was heißt „Honigbiene“ auf Französisch? 🐝 蜂蜜 café naïve Привет 1,234.56 €")],
    "turns": [
        ("system", "You are a terse librarian. Answer in one short sentence."),
        ("user", "Who wrote Moby-Dick?"),
        ("assistant", "Herman Melville wrote it in 1851."),
        ("user", "And what is it about?"),
    ],
    "space": [
        ("user", "  Indented:\n\n\tif (a<b && c>d) {\n        return  a;   \n\t}\r\n\n\n"
         "What's wrong with it? I'd've said: nothing!!  "),
    ],
}

SPLITS = ["gpt-2", "phi-2", "exaone4", "olmo", "mpt", "trillion", "granite-docling", "smollm", "starcoder", "refact",
          "command-r", "codeshell", "exaone", "minerva-7b", "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1",
          "pixtral", "midm-2.0", "lfm2", "smaug-bpe", "dbrx", "chatglm-bpe", "glm4", "qwen2", "stablelm2",
          "deepseek-r1-qwen", "megrez", "hunyuan", "qwen35", "tekken", "gpt-4o", "llama4", "default"]
TEXTS = [
    "Hello, world! It's 2024-01-31 and I'LL pay $1,234,567.89 (≈ €1.2m).",
    "  leading, trailing  \n\n\tand\r\n  mixed   whitespace\n \n",
    "naïve café Привет 蜂蜜 🐝🐝 ١٢٣ ½ Ⅷ e\u0301 \u00a0nbsp\u3000wide",
    "def f(x):\n    return x**2 + 10000 % 7 # don't\n\n\nclass A_b: pass",
    "<tag attr=\"v\">a<b && c>=d; x^y~z|w</tag> ...!!!??? --->",
    "DON'T we'Ve they'RE 'sup ''' s's",
    "1 12 123 1234 12345 123456 1234567 a1b22c333d4444",
    "camelCase HTTPServer iPhone McDonald ÉCOLE École ДОм naïveCafé ǅungla aB'sC don'T/\n/a",
    "a\u0300\u0301b \u0301 ก\u0e49 कि नमस्ते 👩‍👩‍👧 👍🏽 \x00\x07\x1b[31m \u200b\u202e\ufeff",
    "\n\n\n x\n\n\ty \r\r\n    z\t\t  \u2003\u2003w   ",
    "<|im_start|> <|im_end|><s></s> <|endoftext|>",
]


def best_and_gap(model):
    logits = numpy.ctypeslib.as_array(model._ctx.get_logits_ith(-1), shape=(model.n_vocab(),))
    second, best = numpy.sort(logits)[-2:]
    return int(numpy.argmax(logits)), round(float(best - second), 5)


def answer(model, formatter, turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    prompt = model.tokenize(formatter(messages=messages).prompt.encode(), add_bos=False, special=True)
    model.reset()
    model.eval(prompt)
    tokens, gaps = [], []
    for _ in range(TOKENS):
        token, gap = best_and_gap(model)
        tokens.append(token)
        gaps.append(gap)
        model.eval([token])
    print(json.dumps(model.detokenize(tokens).decode(errors="replace"), ensure_ascii=False))
    return {"messages": messages, "prompt": prompt, "answer": tokens, "gaps": gaps}


def split(name):
    # What a way of splitting says of begin tokens is not of interest here.
    overrides = {"tokenizer.ggml.pre": name, "tokenizer.ggml.add_bos_token": False}
    model = Llama(MODEL, vocab_only=True, verbose=False, kv_overrides=overrides)
    return [model.tokenize(text.encode(), add_bos=False, special=False) for text in TEXTS]


def lines(values):
    """JSON with one entry to a line, so that a changed entry is a changed line."""
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def main():
    # The cache holds 32-bit numbers, as candle's does.
    model = Llama(MODEL, n_ctx=1024, n_threads=1, type_k=0, type_v=0, flash_attn=False, verbose=False)
    formatter = Jinja2ChatFormatter(
        template=model.metadata["tokenizer.chat_template"],
        bos_token=model.detokenize([model.token_bos()], special=True).decode(),
        eos_token=model.detokenize([model.token_eos()], special=True).decode(),
    )
    chats = {name: answer(model, formatter, turns) for name, turns in CHATS.items()}
    splits = {name: split(name) for name in SPLITS}
    parts = [
        f' "written_by": "scripts/reference_tokens.py with llama-cpp-python {llama_cpp.__version__}"',
        f' "model": {json.dumps(pathlib.Path(MODEL).name)}',
        f' "chats": {{\n{lines(chats)}\n }}',
        f' "texts": {json.dumps(TEXTS, ensure_ascii=False)}',
        f' "splits": {{\n{lines(splits)}\n }}',
    ]
    OUTPUT.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
