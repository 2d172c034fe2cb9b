#!/usr/bin/env python3
"""Quantizes a model to the types that engines are most likely to be given.

    PYTHONPATH=.tools/llama scripts/quantized_models.py MODEL.gguf FOLDER

`make bench-engine` compares how both engines score the same text with each file. Rows whose length is not a multiple of 256
cannot have a K type: llama.cpp uses Q5_0 instead of Q4_K, Q5_1 instead of Q5_K, and Q8_0 instead of Q6_K. The file of a small
model therefore has several types.
"""

import argparse
import pathlib

import llama_cpp

KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "F16"]


def quantize(source, target, kind):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    options.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), options) != 0:
        raise SystemExit(f"llama.cpp failed to quantize {source} to {target}: see its messages above")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=pathlib.Path, help="GGUF file to quantize")
    arguments.add_argument("folder", type=pathlib.Path, help="folder for the quantized files; created if missing")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    stem = options.model.name.split(".")[0]
    for kind in KINDS:
        quantize(options.model, options.folder / f"{stem}.{kind}.gguf", kind)


if __name__ == "__main__":
    main()
