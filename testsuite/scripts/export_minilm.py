"""Writes the encoder of a BERT checkpoint as ONNX graphs: in float32, and with its products in int8.

Usage: export_minilm.py CHECKPOINT_DIR OUT_DIR

OUT_DIR/minilm.onnx is the graph as PyTorch's exporter writes such a model; OUT_DIR/minilm-int8.onnx
is what onnxruntime.quantization makes of it: dynamic scales, weights a scale per output channel.
Both have symbolic `batch` and `seq`. OUT_DIR/index.json comes last.

Needs numpy, onnx and onnxruntime.
"""

import json
import math
import pathlib
import sys

import numpy as np
import onnx
from minilm import tensors
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


class Graph:
    """Nodes and constants of a graph that grows."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.constants = [], {}

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name].astype(np.float32))

    def op(self, kind, *inputs, **attributes):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def dense(self, name, x):
        matrix = self.constant(name + ".matrix", self.weights[name + ".weight"].T.astype(np.float32).copy())
        return self.op("Add", self.op("MatMul", x, matrix), self.weight(name + ".bias"))

    def norm(self, name, x):
        scale, bias = self.weight(name + ".weight"), self.weight(name + ".bias")
        epsilon = self.config["layer_norm_eps"]
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def scalar(self, value):
        return self.constant(f"scalar_{value}", np.float32(value))

    def gelu(self, x):
        erf = self.op("Erf", self.op("Div", x, self.scalar(math.sqrt(2))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.scalar(1))), self.scalar(0.5))

    def attention(self, at, x, mask):
        heads = self.config["num_attention_heads"]
        size = self.config["hidden_size"] // heads
        split = self.constant("split", np.array([0, 0, heads, size], np.int64))
        join = self.constant("join", np.array([0, 0, heads * size], np.int64))
        orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        q, k, v = (
            self.op("Transpose", self.op("Reshape", self.dense(f"{at}self.{name}", x), split), perm=order)
            for name, order in orders.items()
        )
        scores = self.op("Div", self.op("MatMul", q, k), self.scalar(math.sqrt(size)))
        shares = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, v), perm=[0, 2, 1, 3])
        y = self.dense(at + "output.dense", self.op("Reshape", mixed, join))
        return self.norm(at + "output.LayerNorm", self.op("Add", y, x))

    def embeddings(self):
        tables = {"word": "input_ids", "token_type": "token_type_ids"}
        word, kind = (
            self.op("Gather", self.weight(f"embeddings.{name}_embeddings.weight"), ids) for name, ids in tables.items()
        )
        one, zero = (self.constant(f"index_{i}", np.array([i], np.int64)) for i in (1, 0))
        length = self.op("Slice", self.op("Shape", "input_ids"), one, self.constant("index_2", np.array([2], np.int64)))
        places = self.op("Slice", self.weight("embeddings.position_embeddings.weight"), zero, length, zero)
        return self.norm("embeddings.LayerNorm", self.op("Add", self.op("Add", word, kind), places))

    def model(self):
        x = self.embeddings()
        axes = self.constant("axes", np.array([1, 2], np.int64))
        mask = self.op("Cast", self.op("Unsqueeze", "attention_mask", axes), to=TensorProto.FLOAT)
        least = self.scalar(float(np.finfo(np.float32).min))
        mask = self.op("Mul", self.op("Sub", self.scalar(1), mask), least)
        for layer in range(self.config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}."
            x = self.attention(at + "attention.", x, mask)
            y = self.gelu(self.dense(at + "intermediate.dense", x))
            x = self.norm(at + "output.LayerNorm", self.op("Add", self.dense(at + "output.dense", y), x))
        self.nodes[-1].output[0] = "last_hidden_state"
        hidden = self.config["hidden_size"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in INPUTS]
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "seq", hidden])
        graph = helper.make_graph(self.nodes, "minilm", inputs, [output], list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main(folder, out):
    config = json.loads((folder / "config.json").read_text())
    model = Graph(tensors(folder / "model.safetensors"), config).model()
    onnx.checker.check_model(model)
    plain, int8 = out / "minilm.onnx", out / "minilm-int8.onnx"
    onnx.save(model, plain)
    # Gathered tables stay as they are, as in Fermata.
    quantize_dynamic(plain, int8, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    (out / "index.json").write_text(json.dumps(["minilm.onnx", "minilm-int8.onnx"]))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
