#!/usr/bin/env python3
"""Writes a model of 1.07 billion random weights, for measuring speed and memory. Its answers are meaningless.

    PYTHONPATH=.tools/llama scripts/synthetic_model.py SmolLM2.gguf synthetic.gguf

Tokenizer and chat template are copied from the first file, so that every engine with the llama architecture runs the second.
The weights are the same on every machine. `make bench-engine` uses the model, because no package index has models of this size.
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
# Matrices of a Llama block in the order of the file, as (rows, columns).
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
# Standard deviation of the weights. With 1/50, the output of a block is about as large as its input, as in a trained model.
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


def normal_numbers(seed, count):
    """Approximately normally distributed numbers: sums of twelve uniform ones.

    numpy guarantees the bits of its generators across versions, but not the results of its distributions.
    """
    raw = numpy.random.PCG64(seed).random_raw(count * 3).view(numpy.uint16).reshape(count, 12)
    return (raw.sum(axis=1, dtype=numpy.float32) / 65536 - 6).astype(numpy.float32)


def copy_header(writer, like, changed):
    # The writer adds these keys itself.
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
    """Matrices cut from one pool of random numbers, because generating a billion would take minutes."""

    def __init__(self):
        self.pool = (normal_numbers(0, 1 << 22) * DEVIATION).astype(numpy.float16)

    def matrix(self, name, rows, columns):
        rotated = numpy.roll(self.pool, zlib.crc32(name.encode()) % self.pool.size)
        return numpy.resize(rotated, (rows, columns))


def add_tensors(writer, vocabulary):
    weights = Weights()

    def matrix(name, rows, columns):
        writer.add_tensor(name, weights.matrix(name, rows, columns))

    def norm(name):
        writer.add_tensor(name, numpy.ones(HIDDEN, numpy.float32))

    # The embedding is the output matrix as well.
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
    # The writer keeps matrices in a temporary file instead of in memory.
    writer = gguf.GGUFWriter(target, "llama", use_temp_file=True)
    copy_header(writer, like, shape(vocabulary))
    add_tensors(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, target, kind):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), options) != 0:
        raise SystemExit(f"llama.cpp failed to quantize {source} to {target}: see its messages above")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("like", type=pathlib.Path, help="GGUF file whose tokenizer and chat template are copied")
    arguments.add_argument("target", type=pathlib.Path, help="file to write")
    arguments.add_argument("--kind", default="Q4_K_M", help="quantization type, as named by llama.cpp (default: Q4_K_M)")
    options = arguments.parse_args()
    wide, part = (options.target.with_name(f"{options.target.name}.{end}") for end in ("f16", "part"))
    write(options.like, wide)
    quantize(wide, part, options.kind)
    wide.unlink()
    # The target appears only when it is complete.
    part.rename(options.target)


if __name__ == "__main__":
    main()
