#!/usr/bin/env python3
"""Quantises a model to every other type that llama.cpp knows and engines are likely to meet.

    PYTHONPATH=.tools/llama scripts/quantised_models.py MODEL.gguf FOLDER

`make bench-engine` compares how both engines read the same text with each. A row whose length is no multiple of 256 cannot
have a K type: llama.cpp takes Q5_0 for Q4_K, Q5_1 for Q5_K, and Q8_0 for Q6_K, so that of a small model a file has several.
"""

import argparse
import pathlib

import llama_cpp

KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "F16"]


def quantise(source, target, kind):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    options.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), options) != 0:
        raise SystemExit(f"llama.cpp could not make {target} of {source}; what it said stands above")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("folder", type=pathlib.Path)
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    stem = options.model.name.split(".")[0]
    for kind in KINDS:
        quantise(options.model, options.folder / f"{stem}.{kind}.gguf", kind)


if __name__ == "__main__":
    main()
