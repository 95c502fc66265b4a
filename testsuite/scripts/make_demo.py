"""Trains the network of `fermata demo` and writes it with a sample.

    python make_demo.py OUT_DIR

A small convolutional network over the 8x8 images of scikit-learn's digits dataset (BSD
licence). Everything is numpy: the training, and the forward pass that the expected output
comes from; ONNX Runtime only cross-checks it. One seed, so one result.

Needs numpy, scikit-learn, onnx and onnxruntime.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED = 0
EPOCHS = 12
BATCH = 32
RATE = 2e-3
EPSILON = 1e-5
SAMPLES = 8  # the first image that training did not see of each of the digits 0 to 7


def patches(x):
    """The 3x3 neighbourhoods of every pixel, zero-padded: [n, h, w, c * 9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(*windows.shape[:1], *windows.shape[2:4], -1)


def convolve(x, weight, bias):
    """A 3x3 convolution with padding 1, and the patches that its gradient needs."""
    columns = patches(x)
    y = columns @ weight.reshape(weight.shape[0], -1).T + bias
    return y.transpose(0, 3, 1, 2), columns


def convolve_back(dy, columns, weight):
    """Gradients of the input, the weight and the bias of `convolve`."""
    rows = dy.transpose(0, 2, 3, 1)
    dweight = np.tensordot(rows, columns, axes=([0, 1, 2], [0, 1, 2])).reshape(weight.shape)
    flipped = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    dx, _ = convolve(dy, flipped, np.zeros(flipped.shape[0], weight.dtype))
    return dx, dweight, rows.sum(axis=(0, 1, 2))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def initial(rng):
    """He-scaled weights."""
    def he(*shape):
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))

    return {
        "conv1.weight": he(16, 1, 3, 3), "conv1.bias": np.zeros(16),
        "norm.scale": np.ones(16), "norm.bias": np.zeros(16),
        "conv2.weight": he(32, 16, 3, 3), "conv2.bias": np.zeros(32),
        "dense.weight": he(10, 512), "dense.bias": np.zeros(10),
    }


def step(p, stats, x, labels):
    """Forward and backward of one batch; gives the gradients and updates the running statistics."""
    n = len(x)
    a, columns1 = convolve(x, p["conv1.weight"], p["conv1.bias"])
    mean, var = a.mean(axis=(0, 2, 3)), a.var(axis=(0, 2, 3))
    stats["mean"] = 0.9 * stats["mean"] + 0.1 * mean
    stats["var"] = 0.9 * stats["var"] + 0.1 * var
    channel = lambda v: v[None, :, None, None]
    inv = 1 / np.sqrt(var + EPSILON)
    hat = (a - channel(mean)) * channel(inv)
    b = np.maximum(hat * channel(p["norm.scale"]) + channel(p["norm.bias"]), 0)
    c, columns2 = convolve(b, p["conv2.weight"], p["conv2.bias"])
    d = np.maximum(c, 0)
    blocks = d.reshape(n, 32, 4, 2, 4, 2)
    pooled = blocks.max(axis=(3, 5))
    flat = pooled.reshape(n, -1)
    prob = softmax(flat @ p["dense.weight"].T + p["dense.bias"])

    g = {}
    dz = prob.copy()
    dz[np.arange(n), labels] -= 1
    dz /= n
    g["dense.weight"], g["dense.bias"] = dz.T @ flat, dz.sum(axis=0)
    dpool = (dz @ p["dense.weight"]).reshape(pooled.shape)
    hit = blocks == pooled[:, :, :, None, :, None]
    dd = (hit / hit.sum(axis=(3, 5), keepdims=True) * dpool[:, :, :, None, :, None]).reshape(d.shape)
    db, g["conv2.weight"], g["conv2.bias"] = convolve_back(dd * (c > 0), columns2, p["conv2.weight"])
    dn = db * (b > 0)
    g["norm.scale"], g["norm.bias"] = (dn * hat).sum(axis=(0, 2, 3)), dn.sum(axis=(0, 2, 3))
    dhat = dn * channel(p["norm.scale"])
    centred = dhat - channel(dhat.mean(axis=(0, 2, 3))) - hat * channel((dhat * hat).mean(axis=(0, 2, 3)))
    _, g["conv1.weight"], g["conv1.bias"] = convolve_back(centred * channel(inv), columns1, p["conv1.weight"])
    return g


def train(x, y):
    """Adam over shuffled batches."""
    rng = np.random.default_rng(SEED)
    p = initial(rng)
    stats = {"mean": np.zeros(16), "var": np.ones(16)}
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(w) for k, w in p.items()}
    t = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for at in range(0, len(x), BATCH):
            pick = order[at:at + BATCH]
            grads = step(p, stats, x[pick], y[pick])
            t += 1
            for k, grad in grads.items():
                m[k] = 0.9 * m[k] + 0.1 * grad
                v[k] = 0.999 * v[k] + 0.001 * grad * grad
                p[k] -= RATE * (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
    p["norm.mean"], p["norm.var"] = stats["mean"], stats["var"]
    return {k: w.astype(np.float32) for k, w in p.items()}


def forward(p, x):
    """Inference in f64: what the network means."""
    p = {k: v.astype(np.float64) for k, v in p.items()}
    channel = lambda v: v[None, :, None, None]
    a, _ = convolve(x.astype(np.float64), p["conv1.weight"], p["conv1.bias"])
    scale = p["norm.scale"] / np.sqrt(p["norm.var"] + EPSILON)
    b = np.maximum((a - channel(p["norm.mean"])) * channel(scale) + channel(p["norm.bias"]), 0)
    c, _ = convolve(b, p["conv2.weight"], p["conv2.bias"])
    d = np.maximum(c, 0)
    pooled = d.reshape(len(x), 32, 4, 2, 4, 2).max(axis=(3, 5))
    return softmax(pooled.reshape(len(x), -1) @ p["dense.weight"].T + p["dense.bias"])


def model(p):
    """The network as ONNX."""
    norm = ["norm.scale", "norm.bias", "norm.mean", "norm.var"]
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "conv1.weight", "conv1.bias"], ["a"], name="conv1", pads=[1] * 4, kernel_shape=[3, 3]),
        node("BatchNormalization", ["a", *norm], ["b"], name="norm", epsilon=EPSILON),
        node("Relu", ["b"], ["c"], name="relu1"),
        node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"], name="conv2", pads=[1] * 4, kernel_shape=[3, 3]),
        node("Relu", ["d"], ["e"], name="relu2"),
        node("MaxPool", ["e"], ["f"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["f"], ["g"], name="flatten"),
        node("Gemm", ["g", "dense.weight", "dense.bias"], ["h"], name="dense", transB=1),
        node("Softmax", ["h"], ["probability"], name="softmax", axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    out = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 10])
    weights = [numpy_helper.from_array(w, name) for name, w in p.items()]
    graph = helper.make_graph(nodes, "digits", [image], [out], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                             producer_name="fermata make_demo.py")
    onnx.checker.check_model(made, full_check=True)
    return made


def main(out):
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    test = np.arange(len(x)) % 5 == 0
    p = train(x[~test].astype(np.float64), y[~test])
    accuracy = (forward(p, x[test]).argmax(axis=1) == y[test]).mean()
    print(f"accuracy on {test.sum()} images that training did not see: {accuracy:.4f}")

    made = model(p).SerializeToString(deterministic=True)
    shown = [np.flatnonzero(test & (y == digit))[0] for digit in range(SAMPLES)]
    images, labels = x[shown], y[shown]
    expected = forward(p, images).astype(np.float32)
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    (peer,) = session.run(None, {"image": images})
    np.testing.assert_allclose(expected, peer, rtol=1e-4, atol=1e-5)

    out = pathlib.Path(out)
    (out / "digits.onnx").write_bytes(made)
    np.savez(out / "sample.npz", image=images, label=labels, probability=expected)


if __name__ == "__main__":
    main(sys.argv[1])
