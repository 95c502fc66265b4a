"""Writes ONNX's node test cases to a folder, one folder a case.

    python export_onnx_node.py OUT_DIR

Each holds `model.onnx`, `input_K.pb` and `output_K.pb` (`TensorProto`), and `case.json` with the
tolerances and the numbers of inputs and outputs. A value that is no tensor (a sequence, an
optional) leaves no file, and the runner says so. `index.json` is written last: it lists the
cases, and a folder that has it is complete.

Needs onnx and numpy.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_node_model_tests


def serialized(value):
    """A tensor as bytes of a TensorProto; None for what is no tensor."""
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    if isinstance(value, (np.ndarray, np.generic)):
        return numpy_helper.from_array(np.asarray(value)).SerializeToString()
    return None


def main(out):
    out = pathlib.Path(out)
    names = []
    # The cases overflow and divide by zero on purpose.
    warnings.simplefilter("ignore", RuntimeWarning)
    for case in load_node_model_tests():
        folder = out / case.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs, outputs = case.data_sets[0]
        for kind, values in (("input", inputs), ("output", outputs)):
            for place, value in enumerate(values):
                data = serialized(value)
                if data is not None:
                    (folder / f"{kind}_{place}.pb").write_bytes(data)
        facts = {"rtol": case.rtol, "atol": case.atol, "inputs": len(inputs), "outputs": len(outputs),
                 "input_names": [i.name for i in case.model.graph.input]}
        (folder / "case.json").write_text(json.dumps(facts))
        names.append(case.name)
    (out / "index.json").write_text(json.dumps(sorted(names)))
    print(f"{len(names)} cases")


if __name__ == "__main__":
    main(sys.argv[1])
