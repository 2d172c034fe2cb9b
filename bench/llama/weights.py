"""Number of bytes of a model file that are read for each token."""

import gguf

LOOKED_UP = "token_embd.weight"


def bytes_of_each_token(path):
    """Counts every tensor once, except a separate embedding table, of which a token reads one row."""
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors}
    if "output.weight" in sizes:
        sizes.pop(LOOKED_UP, None)
    return sum(sizes.values())
