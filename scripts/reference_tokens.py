#!/usr/bin/env python3
"""Writes worker/tests/reference/*.json: tokens by llama.cpp, with which the engines are compared.

    make setup && scripts/setup bench
    PYTHONPATH=.tools/llama scripts/reference_tokens.py [smollm2 | gemma | synthetic]...

The tests in worker/tests/model/ and `make bench-engine` compare the engine with these files. Run it again only if a model or a
list below changes. Each file names the version that wrote it.

chats: each chat with the ids of its rendered prompt, the greedy tokens, and for each token the gap between the highest and the
second-highest logit. Where the gap is tiny, another order of floating-point sums may choose the other token.
pieces: the same for passages of text.txt.
near_tie: at gaps below this, another token is accepted. It is three times the change (root mean square) of llama.cpp's own gaps
with another attention and a cache of 16 instead of 32 bits. Engines that round elsewhere differ by about as much.
perplexity: the ids of text.txt, and the mean of the negated log-probabilities. The perplexity is the exponential of the mean.
splits: the ids of the texts under each pre-tokenizer (tokenizer.ggml.pre), all with SmolLM2's vocabulary.
"""

import json
import pathlib
import sys

import llama_cpp
import numpy
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench/llama"))

from model import Model, be_quiet  # noqa: E402
from sequences import Reference, log_probabilities  # noqa: E402

MODELS = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma": "gemma-3-270m.Q4_K_M.gguf",
    "synthetic": "synthetic-1B.Q4_K_M.gguf",
}
OUTPUT = ROOT / "worker/tests/reference"
TEXT = OUTPUT / "text.txt"

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
    "one word": [("user", "Hi")],
    "list": [("user", "List five rivers of Europe, one to a line, with the country in which each begins.")],
    "story": [("user", "Tell a story about a lighthouse keeper who finds a message in a bottle.")],
    "table": [("user", "Make a Markdown table of the planets with two columns: name, number of moons.")],
    "letter": [("user", "Write a short and friendly letter to a neighbour whose dog barks all night.")],
    "translation": [("user", "Translate into German: The ferry leaves at half past seven, and it does not wait.")],
    "shell": [("user", "What does `find . -name '*.log' -mtime +7 -delete` do? Is it dangerous?")],
    "json": [("user", "Answer with JSON only: {\"city\": ..., \"country\": ..., \"population\": ...} for Lisbon.")],
    "persona": [
        ("system", "You are a pirate. You always speak like one."),
        ("user", "How do I boil an egg?"),
    ],
    "reasoning": [("user", "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies? Why?")],
    "summary": [
        ("user", "Summarise in one sentence: The older keeper slept in the room below the lamp, because the stairs hurt his "
         "knees and he did not want to climb them twice. The younger one slept in the cottage with the telephone. They met "
         "at six in the morning, when the lamp was put out, and at four in the afternoon, when it was lit again, and they "
         "wrote down in one book what each of them had seen."),
    ],
    "repetition": [("user", "Write the word buzz twenty times, separated by commas.")],
    "poem": [("user", "A haiku about rain on a tin roof, please.")],
    "long": [
        ("system", "You are a patient teacher of physics."),
        ("user", "Why is the sky blue?"),
        ("assistant", "Sunlight is made of all colours. Air scatters short waves, such as blue, far more than long ones, "
         "such as red, so blue light reaches your eyes from every direction of the sky."),
        ("user", "Then why is it not violet, whose waves are shorter still?"),
        ("assistant", "The sun sends less violet than blue, some of it is absorbed high up, and our eyes are less "
         "sensitive to it."),
        ("user", "And why are sunsets red?"),
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


class Answers:
    """Answers of one model, and the changes of its gaps under another rounding."""

    def __init__(self, model):
        self.reference, self.moved = Reference(model), []

    def to(self, prompt, tokens):
        answer, gaps, moved = self.reference.answer(prompt, tokens)
        self.moved += moved
        return {"prompt": prompt, "answer": answer, "gaps": [round(gap, 5) for gap in gaps]}

    def near_tie(self):
        return round(3 * float(numpy.sqrt(numpy.mean(numpy.square(self.moved)))), 3)


def chats(path, model, answers, tokens):
    vocabulary = Llama(str(path), vocab_only=True, verbose=False)
    formatter = Jinja2ChatFormatter(
        template=vocabulary.metadata["tokenizer.chat_template"],
        bos_token=vocabulary.detokenize([vocabulary.token_bos()], special=True).decode(),
        eos_token=vocabulary.detokenize([vocabulary.token_eos()], special=True).decode(),
    )
    made = {}
    for name, turns in CHATS.items():
        messages = [{"role": role, "content": content} for role, content in turns]
        prompt = vocabulary.tokenize(formatter(messages=messages).prompt.encode(), add_bos=False, special=True)
        made[name] = {"messages": messages, **answers.to(prompt, tokens)}
        print(json.dumps(vocabulary.detokenize(made[name]["answer"]).decode(errors="replace"), ensure_ascii=False))
    return made


def pieces(ids, head, answers, count, tokens):
    """Answers to passages of a text, each longer than the one before, all beginning with `head`."""
    body, made = ids[len(head):], {}
    for number in range(count):
        begin = number * len(body) // count
        made[f"piece {number}"] = answers.to(head + body[begin:begin + 8 + 7 * number], tokens)
    return made


def split(path, name):
    # Some pre-tokenizers add a BOS token by default; it is not compared.
    overrides = {"tokenizer.ggml.pre": name, "tokenizer.ggml.add_bos_token": False}
    model = Llama(str(path), vocab_only=True, verbose=False, kv_overrides=overrides)
    return [model.tokenize(text.encode(), add_bos=False, special=False) for text in TEXTS]


def perplexity(model, ids):
    return {"tokens": ids, "mean": -float(numpy.mean(log_probabilities(model, ids)))}


def lines(values):
    """JSON with one entry per line, for readable diffs."""
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def write(name):
    path = ROOT / ".tools/models" / MODELS[name]
    # One thread: with several, the order of sums may differ.
    model = Model(path, 1)
    answers, ids = Answers(model), model.tokenise(TEXT.read_text(encoding="utf-8"))
    parts = [
        f' "written_by": "scripts/reference_tokens.py with llama-cpp-python {llama_cpp.__version__}"',
        f' "model": {json.dumps(path.name)}',
    ]
    if name == "smollm2":
        parts.append(f' "chats": {{\n{lines(chats(path, model, answers, 64))}\n }}')
        parts.append(f' "texts": {json.dumps(TEXTS, ensure_ascii=False)}')
        parts.append(f' "splits": {{\n{lines({name: split(path, name) for name in SPLITS})}\n }}')
    else:
        count, tokens = (20, 64) if name == "gemma" else (8, 32)
        made = pieces(ids, model.tokenise(""), answers, count, tokens)
        parts.append(f' "pieces": {{\n{lines(made)}\n }}')
    parts.append(f' "near_tie": {answers.near_tie()}')
    if name != "synthetic":
        # The perplexity of random weights has no meaning.
        parts.append(f' "perplexity": {json.dumps(perplexity(model, ids))}')
    (OUTPUT / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def main():
    be_quiet()
    for name in sys.argv[1:] or MODELS:
        write(name)


if __name__ == "__main__":
    main()
