"""How much of a model file is read for each token."""

import gguf

LOOKED_UP = "token_embd.weight"


def bytes_of_each_token(path):
    """Every tensor once, but for a table of embeddings of its own, of which a token needs one row."""
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors}
    if "output.weight" in sizes:
        sizes.pop(LOOKED_UP, None)
    return sum(sizes.values())
