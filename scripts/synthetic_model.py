#!/usr/bin/env python3
"""Writes a model of 1.07 billion random weights: right for speed and memory, meaningless as text.

    PYTHONPATH=.tools/llama scripts/synthetic_model.py SmolLM2.gguf synthetic.gguf

Tokenizer and chat template come from the first file, so that every engine of the llama architecture runs the second. The
same weights come out on every machine. `make bench-engine` uses it: models of this size are in no package index.
"""

import argparse
import pathlib
import zlib

import gguf
import llama_cpp
import numpy

LAYERS = 22
HIDDEN = 2048
FEED_FORWARD = 5632
HEADS = 32
KEY_VALUE_HEADS = 4
CONTEXT = 4096

HEAD = HIDDEN // HEADS
# Names and orders of a llama block's matrices, as (rows, columns).
MATRICES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KEY_VALUE_HEADS * HEAD, HIDDEN),
    "attn_v": (KEY_VALUE_HEADS * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (FEED_FORWARD, HIDDEN),
    "ffn_up": (FEED_FORWARD, HIDDEN),
    "ffn_down": (HIDDEN, FEED_FORWARD),
}
NORMS = ["attn_norm", "ffn_norm"]
# A deviation of 1/50 keeps what a block adds about as large as what it was given, as in a trained model.
DEVIATION = 0.02


def shape(vocabulary):
    return {
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KEY_VALUE_HEADS,
        "llama.rope.dimension_count": HEAD,
        "llama.vocab_size": vocabulary,
    }


def bell_curve(seed, count):
    """Numbers of a normal distribution, nearly: sums of twelve uniform ones.

    numpy promises the bits of its generators for ever, but not what its distributions make of them.
    """
    raw = numpy.random.PCG64(seed).random_raw(count * 3).view(numpy.uint16).reshape(count, 12)
    return (raw.sum(axis=1, dtype=numpy.float32) / 65536 - 6).astype(numpy.float32)


def copy_header(writer, like, changed):
    # The writer says these itself.
    own = {"general.architecture", "general.file_type", "general.quantization_version"}
    for key, field in like.fields.items():
        if key.startswith(("GGUF.", "split.")) or key in own:
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, changed.pop(key, None) or field.contents(), field.types[0], sub_type=inner)
    for key, value in changed.items():
        writer.add_uint32(key, value)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


class Weights:
    """Every matrix is another stretch of the same random numbers: a billion of them would take minutes to make."""

    def __init__(self):
        self.pool = (bell_curve(0, 1 << 22) * DEVIATION).astype(numpy.float16)

    def matrix(self, name, rows, columns):
        turned = numpy.roll(self.pool, zlib.crc32(name.encode()) % self.pool.size)
        return numpy.resize(turned, (rows, columns))


def add_tensors(writer, vocabulary):
    weights = Weights()

    def matrix(name, rows, columns):
        writer.add_tensor(name, weights.matrix(name, rows, columns))

    def norm(name):
        writer.add_tensor(name, numpy.ones(HIDDEN, numpy.float32))

    # The output matrix is this one too.
    matrix("token_embd.weight", vocabulary, HIDDEN)
    norm("output_norm.weight")
    for layer in range(LAYERS):
        for name in NORMS:
            norm(f"blk.{layer}.{name}.weight")
        for name, (rows, columns) in MATRICES.items():
            matrix(f"blk.{layer}.{name}.weight", rows, columns)


def write(like, target):
    like = gguf.GGUFReader(like)
    vocabulary = len(like.fields["tokenizer.ggml.tokens"].data)
    # Matrices wait in a file, not in memory.
    writer = gguf.GGUFWriter(target, "llama", use_temp_file=True)
    copy_header(writer, like, shape(vocabulary))
    add_tensors(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source, target, kind):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), options) != 0:
        raise SystemExit(f"llama.cpp could not make {target} of {source}; what it said stands above")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("like", type=pathlib.Path, help="a GGUF file of a tokenizer and a chat template")
    arguments.add_argument("target", type=pathlib.Path)
    arguments.add_argument("--kind", default="Q4_K_M", help="how it is quantised, in llama.cpp's words")
    options = arguments.parse_args()
    wide, part = (options.target.with_name(f"{options.target.name}.{end}") for end in ("f16", "part"))
    write(options.like, wide)
    quantise(wide, part, options.kind)
    wide.unlink()
    # Whole or not at all.
    part.rename(options.target)


if __name__ == "__main__":
    main()
