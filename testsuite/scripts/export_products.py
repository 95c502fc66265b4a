"""Writes products `x * w + b` as ONNX graphs: in float32, and with int8 as onnxruntime.quantization makes it.

Usage: export_products.py MxNxK... OUT_DIR

OUT_DIR/product-MxNxK.onnx and OUT_DIR/product-MxNxK-int8.onnx for each shape; OUT_DIR/index.json,
a list of the shapes, comes last.

Needs numpy, onnx and onnxruntime.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic


def product(m, n, k):
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.standard_normal((k, n), np.float32), "w")
    bias = numpy_helper.from_array(random.standard_normal(n, np.float32), "b")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])
    graph = helper.make_graph(nodes, "product", [x], [y], [weight, bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main(*shapes, out):
    for shape in shapes:
        plain, int8 = out / f"product-{shape}.onnx", out / f"product-{shape}-int8.onnx"
        onnx.save(product(*map(int, shape.split("x"))), plain)
        quantize_dynamic(plain, int8, per_channel=True, weight_type=QuantType.QInt8)
    (out / "index.json").write_text(json.dumps(shapes))


if __name__ == "__main__":
    main(*sys.argv[1:-1], out=pathlib.Path(sys.argv[-1]))
