"""Runs a model on another runtime when it is told to, for `testsuite versus`.

    python peer.py onnxruntime|openvino MODEL.onnx INPUTS.npz OUT.npz THREADS

Answers with a line of JSON each: first that the model is ready, then what `turn SECONDS` took on
standard input; `end` writes the results and tells the peak of memory.

Needs numpy and onnxruntime or openvino.
"""

import json
import pathlib
import sys
import time

import numpy as np

MIN_RUNS = 5


def memory(key):
    """A line of the process's status, in bytes."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key + ":"))


def onnxruntime_session(model, feeds, threads):
    import onnxruntime

    def make():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feeds)

    return make


def openvino_session(model, feeds, threads):
    import openvino

    def make():
        core = openvino.Core()
        read = core.read_model(model)
        read.reshape({name: list(x.shape) for name, x in feeds.items()})
        # All compute in f32; where there is AMX, bf16 would be OpenVINO's choice.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        return lambda: list(request.infer(feeds, share_inputs=True, share_outputs=True).values())

    return make


def say(**facts):
    print(json.dumps(facts), flush=True)


def turn(run, seconds):
    times = []
    begun = time.perf_counter_ns()
    while len(times) < MIN_RUNS or time.perf_counter_ns() - begun < seconds * 1e9:
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return times


def main(runtime, model, inputs, out, threads):
    feeds = dict(np.load(inputs))
    session = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}[runtime]
    make = session(model, feeds, int(threads))
    base = memory("VmRSS")
    start = time.perf_counter_ns()
    run = make()
    say(ready_ns=time.perf_counter_ns() - start, base_bytes=base)
    for line in sys.stdin:
        match line.split():
            case ["turn", seconds]:
                say(times_ns=turn(run, float(seconds)))
            case ["end"]:
                np.savez(out, **{f"output{i}": value for i, value in enumerate(run())})
                say(peak_bytes=memory("VmHWM"))
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
