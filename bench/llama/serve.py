#!/usr/bin/env python3
"""llama.cpp as a process that answers questions in lines of JSON. bench/src/bin/rbee-bench-engine starts it.

    PYTHONPATH=.tools/llama bench/llama/serve.py

Each line is a question, {"load": {...}}, {"answer": {...}} and so on, and gets one line, {"ok": {...}} or
{"failed": "why"}. The methods of `Server` are the questions. Times are in seconds.
"""

import json
import sys
import time

import llama_cpp

from model import Attention, Context, Failure, Model, Room, be_quiet
from sequences import Run, log_probabilities
from weights import bytes_of_each_token


class Server:
    """One model, and the contexts that were created so far."""

    def __init__(self):
        self.model = None
        self.contexts = {}

    def describe(self):
        features = llama_cpp.llama_print_system_info().decode().split("|")
        on = [feature.split(":")[-1].strip() for feature in features if feature.strip().endswith("= 1")]
        used = [feature.removesuffix(" = 1") for feature in on]
        return {"version": f"llama-cpp-python {llama_cpp.__version__}", "features": used}

    def load(self, model, threads, context, sequences, mapped, attention):
        """Loads a file, and creates a context for sequences of `context` tokens each."""
        begun = time.perf_counter()
        self.model = Model(model, threads, mapped)
        self.context(Room(sequences, context, sequences, Attention(attention)))
        return {"seconds": time.perf_counter() - begun}

    def context(self, room):
        if room not in self.contexts:
            self.contexts[room] = Context(self.model, room)
        return self.contexts[room]

    def tokenise(self, text):
        return {"tokens": self.model.tokenise(text)}

    def weights(self, model):
        return {"bytes": bytes_of_each_token(model)}

    def answer(self, prompts, tokens, context, attention, drawn, reuse):
        """Continues all prompts together with their most likely tokens, whatever `drawn` is. `reuse` keeps the part of the
        cache that is a prefix of the only prompt."""
        context = self.context(Room(len(prompts), context, len(prompts), Attention(attention)))
        begun = time.perf_counter()
        if reuse:
            prompts = [context.keep(0, prompts[0])]
        else:
            context.forget()
        run = Run(context, enumerate(prompts))
        first = time.perf_counter()
        run.advance(tokens - 1)
        ended = time.perf_counter()
        steps = tokens - 1
        return {
            "first": first - begun,
            "seconds": ended - begun,
            "later": len(prompts) * steps,
            "steps": steps,
            "answers": run.answers,
        }

    def score(self, tokens):
        return {"log_probabilities": log_probabilities(self.model, tokens)}


def reply(server, line):
    try:
        ((question, details),) = json.loads(line).items()
        if question.startswith("_"):
            raise Failure(f"unknown question {question}")
        return {"ok": getattr(server, question)(**details)}
    except (Failure, AttributeError, TypeError, ValueError, MemoryError) as failure:
        return {"failed": f"{type(failure).__name__}: {failure}"}


def main():
    be_quiet()
    server = Server()
    for line in sys.stdin:
        print(json.dumps(reply(server, line)), flush=True)


if __name__ == "__main__":
    main()
