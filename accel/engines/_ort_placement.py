"""Where ONNX Runtime runs each node and in which precision: what its profiler saw of one call.

Fused nodes, inserted casts and copies are in it, with the types that really went in and out; what
a branch holds that the call did not take is told by the assignment to execution providers. (ONNX
Runtime, "Profiling Tools"; session option session.record_ep_graph_assignment_info.)
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accel import placement
from accel.engines._asked import FLOATS, Asked, slip
from accel.errors import CandidateBroken
from accel.values import Copied, Feed, Placed, Placement

RECORD = "session.record_ep_graph_assignment_info"
DEVICES = {
    "CPUExecutionProvider": "CPU",
    "CUDAExecutionProvider": "GPU",
    "TensorrtExecutionProvider": "GPU",
    "NvTensorRTRTXExecutionProvider": "GPU",
}
COPIES = {"MemcpyToHost": ("GPU", "CPU"), "MemcpyFromHost": ("CPU", "GPU")}
SPELT = {"float": "float32", "double": "float64", "uint8": "int8"}  # uint8: int8 with an offset
FLOAT_INSIDE = {"Cast", "DequantizeLinear", "MatMulNBits"}  # int8 is only what they are given
# optimizers name what they insert or fuse after the node or the tensor that it stands for
ADDED = re.compile(r"^(InsertedPrecisionFreeCast_|fused )|(_nchwc|_token_\d+)+$")
QUANTIZED = re.compile(r"^(QLinear|DynamicQuantize|Fused|Q(?=Gemm))|Integer(ToFloat)?$")


def watch(options: Any, folder: Path) -> None:
    """Let the session that these options are for record what `read` wants, in a scratch folder.

    Every call is slower for it: a session that is timed is not watched."""
    options.add_session_config_entry(RECORD, "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")


def read(session: Any, feed: Feed, wanted: Asked, planned_device: str = "CPU") -> Placement:
    """The placement of a watched session, which runs this feed once and is of no use afterwards.

    `wanted`: what the graph asks for. Raises CandidateBroken where it does not run."""
    try:
        session.run(None, dict(feed))
    except Exception as error:  # onnxruntime raises a dozen types of its own
        said = str(error).strip().splitlines()[0][:400]
        raise CandidateBroken(f"ONNX Runtime could not run: {said}") from None
    finally:
        profile = Path(session.end_profiling())
    events = _events(json.loads(profile.read_text(encoding="utf-8")))
    rows = [_row(name, told, planned_device) for name, told in events if told["op_name"] not in COPIES]  # fmt: skip
    rows = _planned(rows, wanted)
    rows += _not_run(session, rows, planned_device)
    held = tuple(dict.fromkeys(r.operator for r in rows if r.device != planned_device))
    return Placement(
        placement.gathered(rows),
        tuple(_copied([told["op_name"] for _, told in events], held)),
        "ONNX Runtime's profile of one call, and its assignment of nodes to providers",
    )


def _events(profile: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, what was told) of every node, once: a loop's body runs often."""
    ends = "_kernel_time"
    found = {}
    for event in profile:
        if event.get("cat") == "Node" and event["name"].endswith(ends):
            name, told = event["name"].removesuffix(ends), event["args"]
            found[name, told["op_name"], told["node_index"]] = (name, told)
    return list(found.values())


def _row(name: str, told: Mapping[str, Any], planned_device: str) -> Placed:
    provider = told["provider"]
    device = DEVICES.get(provider, provider.removesuffix("ExecutionProvider"))
    return Placed(told["op_name"], 1, device, provider, _dtype(told), planned_device, "", (name,))


def _dtype(told: Mapping[str, Any]) -> str:
    """What a node computes in, by what went in and came out."""
    given = _types(told, "input_type_shape")
    if "int8" in given[:2] and told["op_name"] not in FLOAT_INSIDE:
        return "int8"
    found = [*given, *_types(told, "output_type_shape"), ""]
    return next((kind for kind in found if kind in FLOATS), found[0])


def _types(told: Mapping[str, Any], key: str) -> list[str]:
    return [SPELT.get(kind, str(kind)) for tensor in told.get(key, ()) for kind in tensor]


def _planned(rows: list[Placed], wanted: Asked) -> list[Placed]:
    """The same with the precision that the graph asks for, where a float one runs in its stead.

    A node that optimizers renamed beyond recognition is told by what is missing: the graph asks
    int8 of so many of its operator, and so many run in it or were already found not to."""
    done = [_with(row, wanted) for row in rows]
    known = [bool(_name(row, wanted)) for row in rows]
    missing = Counter(wanted.int8)
    missing.subtract(_plain(r.operator) for r in done if "int8" in (r.dtype, r.planned_dtype))
    for i, row in enumerate(done):
        operator = _plain(row.operator)
        if not known[i] and row.dtype in FLOATS and missing[operator] > 0:
            missing[operator] -= 1
            done[i] = dataclasses.replace(row, planned_dtype="int8")
    return done


def _plain(operator: str) -> str:
    """ONNX's name of an operator that ONNX Runtime has a quantized or fused form of."""
    return QUANTIZED.sub("", operator)


def _name(row: Placed, wanted: Asked) -> str:
    return wanted.name(row.nodes[0]) or wanted.name(ADDED.sub("", row.nodes[0]))


def _with(row: Placed, wanted: Asked) -> Placed:
    wants = "" if row.operator == "Cast" else wanted.dtypes.get(_name(row, wanted), "")
    dtype = slip(wants, row.dtype)
    return dataclasses.replace(row, planned_dtype=dtype)


def _not_run(session: Any, rows: list[Placed], planned_device: str) -> list[Placed]:
    """Nodes of branches that the call did not take, where they fell to another device."""
    seen = {told for row in rows for name in row.nodes for told in (name, ADDED.sub("", name), "")}
    found = []
    for part in session.get_provider_graph_assignment_info():
        device = DEVICES.get(part.ep_name, part.ep_name.removesuffix("ExecutionProvider"))
        fell = [n for n in part.get_nodes() if device != planned_device and n.name not in seen]
        found += [Placed(n.op_type, 1, device, part.ep_name, "", planned_device, "", (n.name,)) for n in fell]  # fmt: skip
    return found


def _copied(operators: Iterable[str], causes: tuple[str, ...]) -> Iterable[Copied]:
    """Copies that ONNX Runtime put between nodes; those of ports are the caller's business."""
    counts = Counter(o for o in operators if o in COPIES)
    return (Copied(*COPIES[operator], count, causes) for operator, count in counts.items())
