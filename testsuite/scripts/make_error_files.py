"""Makes the binary files that the cases of diagnostics read.

usage: python make_error_files.py FOLDER    (needs onnx)
"""

import json
import sys
import zipfile
from pathlib import Path

from onnx import TensorProto, helper


def model(nodes, inputs, outputs, opset=17):
    graph = helper.make_graph(nodes, "main", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made.SerializeToString()


def main(folder):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    relu = helper.make_node("Relu", ["x"], ["y"], name="act")
    (folder / "truncated.onnx").write_bytes(model([relu], [x], [y])[:-20])

    nodes = [
        helper.make_node("Sofmax", ["x"], ["a"], name="probabilities"),
        helper.make_node("Mystery", ["a"], ["b"], name="first"),
        helper.make_node("Mystery", ["b"], ["y"], name="second"),
    ]
    (folder / "unsupported.onnx").write_bytes(model(nodes, [x], [y]))

    # What is written has fewer dimensions than what it is written into.
    x4 = helper.make_tensor_value_info("cache", TensorProto.FLOAT, [2, 3, 4, 5])
    x3 = helper.make_tensor_value_info("update", TensorProto.FLOAT, [2, 3, 5])
    y4 = helper.make_tensor_value_info("present", TensorProto.FLOAT, [2, 3, 4, 5])
    scatter = helper.make_node("TensorScatter", ["cache", "update"], ["present"], name="append")
    (folder / "contradictory.onnx").write_bytes(model([scatter], [x4, x3], [y4], opset=24))

    # A length that is longer than the file, and nothing else.
    (folder / "truncated.safetensors").write_bytes((1 << 20).to_bytes(8, "little") + b'{"w":')

    manifest = {"format": "fermata", "version": [99, 0], "compiler": "99.0.0", "target": "cpu"}
    info = zipfile.ZipInfo("manifest.json", date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(folder / "other_version.fermata", "w") as archive:
        archive.writestr(info, json.dumps(manifest))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
