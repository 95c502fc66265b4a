"""Writes the light graphs of the `onnx` package with weights that numbers can be told from.

    python light_graphs.py OUT_DIR

The package has nine convolutional networks whose weights are `ConstantOfShape`. Each becomes an
initializer: what is multiplied is normal and He-scaled, so that values neither die nor explode,
scales and variances are near one, shifts near zero. One seed, so one result. `index.json` is
written last: it lists the names of the graphs, which lie beside it.

Needs numpy and onnx.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper

# What the operands of a node are, as `role`; those that are not here are values.
ROLES = {
    "Conv": [None, "weight", "shift"],
    "Gemm": [None, "weight", "shift"],
    "BatchNormalization": [None, "scale", "shift", "shift", "scale"],
    "Mul": ["scale", "scale"],
    "Add": ["shift", "shift"],
}


def reader(graph, name):
    """The node that computes with a value, and the place of the operand."""
    for node in graph.node:
        for place, operand in enumerate(node.input):
            if operand == name:
                reshaped = node.op_type in ("Unsqueeze", "Reshape")
                return reader(graph, node.output[0]) if reshaped else (node, place)


def fan_in(node, shape):
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return shape[-1] if transposed else shape[-2]
    return int(np.prod(shape[1:]))


def branch(graph, node):
    """Whether a node gives a branch of a residual sum."""
    after, _ = reader(graph, node.output[0]) or (node, 0)
    return node.op_type == "BatchNormalization" and after.op_type == "Sum"


def values(rng, graph, name, shape):
    """An operand that was a constant."""
    node, place = reader(graph, name)
    noise = rng.standard_normal(shape, np.float32)
    match ROLES[node.op_type][place]:
        case "weight":
            return noise * np.float32(np.sqrt(2 / fan_in(node, shape)))
        case "scale":
            # Sums of branches of their full size would double the variance at each of them.
            return np.abs(1 + noise / 10) * np.float32(0.1 if place == 1 and branch(graph, node) else 1)
        case "shift":
            return noise / 10


def weighted(model):
    """The model with every `ConstantOfShape` an initializer."""
    graph = model.graph
    rng = np.random.default_rng(0)
    shapes = {w.name: w for w in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(numpy_helper.to_array(shapes[node.input[0]]))
        operand = values(rng, graph, node.output[0], shape)
        graph.initializer.append(numpy_helper.from_array(operand, node.output[0]))
    used = {i for n in nodes for i in n.input}
    initializers = [w for w in graph.initializer if w.name in used]
    inputs = [i for i in graph.input if i.name in used and i.name not in shapes]
    for field, kept in ((graph.node, nodes), (graph.initializer, initializers), (graph.input, inputs)):
        kept = list(kept)
        del field[:]
        field.extend(kept)
    return model


def main(out):
    out = pathlib.Path(out)
    light = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    paths = sorted(light.glob("*.onnx"))
    for path in paths:
        onnx.save(weighted(onnx.load(path)), out / path.name)
    (out / "index.json").write_text(json.dumps([p.stem for p in paths]))


if __name__ == "__main__":
    main(sys.argv[1])
