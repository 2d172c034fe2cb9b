"""Uses of a context: continue sequences, quickly or exactly, and score a text."""

import numpy

from model import BATCH, Attention, Context, Room, batches

# Number of positions whose logits are in memory at a time: some vocabularies have 262,144 tokens.
SCORED_AT_A_TIME = 128


class Run:
    """Sequences that are continued with their most likely tokens."""

    def __init__(self, context, prompts):
        """Reads prompts of (sequence, tokens), and generates the first token of each sequence."""
        self.context = context
        self.answers = [[] for _ in range(context.room.sequences)]
        for parts in batches(prompts, min(BATCH, context.room.tokens_of_each * context.room.sequences)):
            self.take(context.read(parts), [sequence for sequence, _, scored in parts if scored])

    def advance(self, count):
        """Generates `count` more tokens of each sequence."""
        sequences = range(len(self.answers))
        for _ in range(count):
            parts = [(sequence, self.answers[sequence][-1:], 1) for sequence in sequences]
            self.take(self.context.read(parts), sequences)

    def take(self, scores, sequences):
        for sequence, token in zip(sequences, scores.argmax(axis=1).tolist()):
            self.answers[sequence].append(token)


class Reference:
    """The most likely tokens, computed as exactly as llama.cpp can, and the gap between each and the second most likely one."""

    def __init__(self, model, tokens_of_each=1024):
        exact, flash = (Room(1, tokens_of_each, 1, attention) for attention in (Attention.EXACT, Attention.FLASH))
        self.exact, self.flash = Context(model, exact), Context(model, flash)

    def answer(self, prompt, tokens):
        """Returns the tokens, their gaps, and the change of each gap with flash attention and a 16-bit cache."""
        self.exact.forget()
        self.flash.forget()
        answer, gaps, moved, unread = [], [], [], prompt
        for _ in range(tokens):
            scores = last_scores(self.exact, unread)
            second, best = numpy.argpartition(scores, -2)[-2:]
            other = last_scores(self.flash, unread)
            gaps.append(float(scores[best] - scores[second]))
            moved.append(float(other[best] - other[second]) - gaps[-1])
            answer.append(int(best))
            unread = [int(best)]
        return answer, gaps, moved


def last_scores(context, tokens):
    *others, last = batches([(0, tokens)])
    for part in others:
        context.read(part)
    return context.read(last)[0]


def log_probabilities(model, tokens):
    """Returns the log-probability of each token but the first, given those before it."""
    context = Context(model, Room(1, len(tokens), SCORED_AT_A_TIME, Attention.EXACT))
    scored = []
    for begin in range(0, len(tokens) - 1, SCORED_AT_A_TIME):
        part = tokens[begin:min(begin + SCORED_AT_A_TIME, len(tokens) - 1)]
        rows = context.read([(0, part, len(part))]).astype(numpy.float64)
        highest = rows.max(axis=1)
        total = highest + numpy.log(numpy.exp(rows - highest[:, None]).sum(axis=1))
        chosen = rows[numpy.arange(len(part)), tokens[begin + 1:begin + 1 + len(part)]]
        scored.extend((chosen - total).tolist())
    return scored
