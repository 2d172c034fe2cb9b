"""llama.cpp through its C interface: a model file, and contexts in which several sequences advance together.

The settings are the fastest ones of llama.cpp: a 16-bit KV cache with a part for each sequence, batches of 512 tokens, one
thread pool for the whole process, and a context of exactly the needed size. Flash attention and memory mapping help some
workloads and hurt others, so the caller chooses them.
"""

import ctypes
import enum
import pathlib
from dataclasses import dataclass

import llama_cpp
import numpy

BATCH = 512
F32, F16 = 0, 1
# llama.cpp rounds the context up to a multiple of this many tokens.
PIECE = 256


class PoolOptions(ctypes.Structure):
    """ggml_threadpool_params of ggml.h, which the Python package does not define."""

    _fields_ = [
        ("mask", ctypes.c_bool * 512),
        ("threads", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


def thread_pool(threads):
    """Creates a thread pool. Without one, llama.cpp starts and stops threads for each batch."""
    base, processor = loaded_library("libggml-base"), loaded_library("libggml-cpu")
    base.ggml_threadpool_params_default.restype = PoolOptions
    options = base.ggml_threadpool_params_default(ctypes.c_int(threads))
    processor.ggml_threadpool_new.restype = ctypes.c_void_p
    return ctypes.c_void_p(processor.ggml_threadpool_new(ctypes.byref(options)))


def loaded_library(name):
    """Returns the copy of a library that llama.cpp itself has loaded. The package has each library under three names, and
    threads of a second copy would not use the weights that the first has packed: they run at a third of the speed."""
    maps = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if f"/{name}." in line))


@llama_cpp.llama_log_callback
def discard_log(level, text, data):
    pass


def be_quiet():
    llama_cpp.llama_log_set(discard_log, ctypes.c_void_p(0))


class Failure(Exception):
    """llama.cpp refused an operation."""


class Attention(enum.Enum):
    """Implementation of attention in a context."""

    FLASH = "flash"
    PLAIN = "plain"
    # Without flash attention, with a cache of 32-bit numbers: for references, not for speed.
    EXACT = "exact"


@dataclass(frozen=True)
class Room:
    """Size of a context, and its implementation of attention."""

    sequences: int
    tokens_of_each: int
    scores: int
    attention: Attention


class Model:
    """A loaded model file."""

    def __init__(self, path, threads, mapped=True):
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP if mapped else llama_cpp.LLAMA_LOAD_MODE_NONE
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            raise Failure(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.tokens = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.threads = threads
        self.pool = thread_pool(threads)

    def tokenise(self, text):
        """Returns the token ids of a text, with the BOS token if the model uses one."""
        data = text.encode()
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), ids, room, True, False)
        return list(ids[:count])


class Context:
    """Sequences of one model that advance together."""

    def __init__(self, model, room):
        self.model, self.room = model, room
        self.context = llama_cpp.llama_init_from_model(model.model, self.options())
        if not self.context:
            raise Failure(f"llama.cpp failed to create a context for {room}")
        attach = llama_cpp.llama_cpp._lib.llama_attach_threadpool
        attach(ctypes.c_void_p(self.context), model.pool, model.pool)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self.batch_fields = self.views()
        # The tokens of each sequence that are in the cache.
        self.held = [[] for _ in range(room.sequences)]

    def __del__(self):
        if getattr(self, "context", None):
            llama_cpp.llama_free(self.context)

    def options(self):
        options, room = llama_cpp.llama_context_default_params(), self.room
        pieces = -(-room.tokens_of_each // PIECE)
        options.n_ctx = pieces * PIECE * room.sequences
        options.n_batch = options.n_ubatch = min(BATCH, options.n_ctx)
        options.n_seq_max = room.sequences
        options.n_outputs_max = room.scores
        options.n_threads = options.n_threads_batch = self.model.threads
        options.type_k = options.type_v = F32 if room.attention is Attention.EXACT else F16
        flash = room.attention is Attention.FLASH
        kinds = (llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        options.flash_attn_type = kinds[flash]
        options.kv_unified = False
        options.no_perf = True
        return options

    def views(self):
        """Returns the arrays of the batch as numpy views: filling them one number at a time is slow."""
        fields = [self.batch.token, self.batch.pos, self.batch.logits]
        token, position, is_scored = (numpy.ctypeslib.as_array(field, shape=(BATCH,)) for field in fields)
        sequence = [self.batch.seq_id[index] for index in range(BATCH)]
        numpy.ctypeslib.as_array(self.batch.n_seq_id, shape=(BATCH,))[:] = 1
        return token, position, is_scored, sequence

    def forget(self):
        llama_cpp.llama_memory_clear(self.memory, False)
        self.held = [[] for _ in range(self.room.sequences)]

    def keep(self, sequence, tokens):
        """Keeps the longest prefix of `tokens` that is in the cache, and returns the other tokens, at least one."""
        held = self.held[sequence]
        shared = 0
        while shared < min(len(held), len(tokens) - 1) and held[shared] == tokens[shared]:
            shared += 1
        llama_cpp.llama_memory_seq_rm(self.memory, sequence, shared, -1)
        del held[shared:]
        return tokens[shared:]

    def read(self, parts):
        """Evaluates (sequence, tokens, scored) parts in one batch, and returns one row of logits for each scored position.

        `scored` is the number of positions at the end of the tokens whose logits are returned. All tokens must fit into one batch.
        """
        token, position, is_scored, sequence = self.batch_fields
        end = 0
        for of, tokens, scored in parts:
            begin, end = end, end + len(tokens)
            token[begin:end] = tokens
            position[begin:end] = numpy.arange(len(self.held[of]), len(self.held[of]) + len(tokens))
            is_scored[begin:end] = 0
            is_scored[end - scored:end] = 1
            for index in range(begin, end):
                sequence[index][0] = of
            self.held[of].extend(tokens)
        self.batch.n_tokens = end
        code = llama_cpp.llama_decode(self.context, self.batch)
        if code != 0:
            raise Failure(f"llama_decode failed with code {code}")
        return self.scores(sum(scored for _, _, scored in parts))

    def scores(self, rows):
        if rows == 0:
            llama_cpp.llama_synchronize(self.context)
            return numpy.empty((0, self.model.tokens), numpy.float32)
        return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=(rows, self.model.tokens))


def batches(prompts, size=BATCH):
    """Cuts (sequence, tokens) into batches of at most `size` tokens. Only the last token of each prompt is scored."""
    made, room = [[]], size
    for sequence, tokens in prompts:
        while tokens:
            if room == 0:
                made.append([])
                room = size
            part, tokens = tokens[:room], tokens[room:]
            room -= len(part)
            made[-1].append((sequence, part, 0 if tokens else 1))
    return made
