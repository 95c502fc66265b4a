"""A forward pass of a BERT encoder in numpy, tokens included, independent of the importer.

Usage: minilm.py CHECKPOINT_DIR TEXTS.txt OUT_DIR

Writes OUT_DIR/N.npz for line N of the texts: last_hidden_state and sentence_embedding (mean over
tokens, L2-normalised), computed in float64.
"""

import json
import math
import pathlib
import struct
import sys
import unicodedata

import numpy as np


def tensors(path):
    """The arrays of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    kinds = {"F32": np.float32, "I64": np.int64}
    arrays = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = array.astype(np.float64)
    return arrays


def words(text):
    """BERT's normalisation and split, for uncased vocabularies."""
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or not unicodedata.category(c).startswith("C"))
    text = unicodedata.normalize("NFD", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Mn").lower()
    word = ""
    for c in text + " ":
        code = ord(c)
        alone = unicodedata.category(c).startswith("P") or c in "$+<=>^`|~" or 0x4E00 <= code <= 0x9FFF
        if alone or c == " ":
            if word:
                yield word
            if alone:
                yield c
            word = ""
        else:
            word += c


def encode(text, vocab, limit):
    tokens = []
    for word in words(text):
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in vocab), None)
            if end is None or len(word) > 100:
                pieces = [vocab["[UNK]"]]
                break
            pieces.append(vocab[prefix + word[start:end]])
            start = end
        tokens += pieces
    return [vocab["[CLS]"], *tokens[: limit - 2], vocab["[SEP]"]]


def forward(weights, config, ids):
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    erf = np.vectorize(math.erf)

    def dense(name, x):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return x * weights[name + ".weight"] + weights[name + ".bias"]

    def split(x):
        return x.reshape(len(ids), heads, hidden // heads).transpose(1, 0, 2)

    tables = {"word": ids, "token_type": [0] * len(ids), "position": range(len(ids))}
    x = sum(weights[f"embeddings.{name}_embeddings.weight"][list(rows)] for name, rows in tables.items())
    x = norm("embeddings.LayerNorm", x)
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        q, k, v = (split(dense(f"{at}attention.self.{name}", x)) for name in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(hidden // heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        y = (shares @ v).transpose(1, 0, 2).reshape(len(ids), hidden)
        x = norm(at + "attention.output.LayerNorm", dense(at + "attention.output.dense", y) + x)
        y = dense(at + "intermediate.dense", x)
        y = y / 2 * (1 + erf(y / math.sqrt(2)))
        x = norm(at + "output.LayerNorm", dense(at + "output.dense", y) + x)
    mean = x.mean(0)
    return x, mean / np.linalg.norm(mean)


def main(folder, texts, out):
    config = json.loads((folder / "config.json").read_text())
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    vocab = {piece: token for token, piece in enumerate((folder / "vocab.txt").read_text("utf-8").split("\n"))}
    weights = tensors(folder / "model.safetensors")
    for number, text in enumerate(texts.read_text("utf-8").splitlines()):
        ids = encode(text, vocab, limit)
        states, embedding = forward(weights, config, ids)
        np.savez(
            out / f"{number}.npz",
            last_hidden_state=states[None].astype(np.float32),
            sentence_embedding=embedding[None].astype(np.float32),
        )


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
