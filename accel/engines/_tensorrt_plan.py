"""A TensorRT plan's folder: what it is made from, what is written there, and the facts that tell it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import disk, graph, store
from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_layers as ledgers
from accel.engines import _tensorrt_network as networks
from accel.engines import _tensorrt_profiles as profiles_of
from accel.engines._asked import asked
from accel.engines._tensorrt_build import Made
from accel.engines._tensorrt_identity import AMPERE_PLUS, Identity
from accel.engines._tensorrt_options import Choices
from accel.errors import CandidateBroken
from accel.values import Model, Placement, Request, Target

LAYERS, ONNX = "layers.json", "model.onnx"
AMPERE = "8.0"


def source(path: Path, target: Target, choices: Choices, out: Path) -> networks.Graph:
    """What is parsed. Of a plan without weights it lies in the plan, as it is parsed: the weights
    are found again by the names that they have there."""
    if choices.hardware_compatibility == AMPERE_PLUS:  # a newer GPU runs older PTX, not the reverse
        target = dataclasses.replace(target, compute_capability=AMPERE)
    if not choices.strip_plan:
        return networks.prepared(path, target)
    copied = graph.copy(path, out / ONNX)
    found = networks.prepared(copied, target)
    if found.content is not None:
        disk.write(copied, found.content)
    return dataclasses.replace(found, content=None)


def profiles(
    model: Model,
    requests: Sequence[Request],
    choices: Choices,
    io: Sequence[Mapping[str, Any]],
    room: int,
) -> list[dict[str, Any]]:
    """Of the inputs that the network has, smallest first; the last has room for larger shapes."""
    exact, there = choices.dla is not None, {p["name"]: p for p in io if p["mode"] == "input"}
    used = [p for p in model.inputs if p.name in there]
    groups = profiles_of.groups(used, requests, choices.profiles, exact)
    found = []
    for group in groups:
        most = room if group is groups[-1] else 1
        made: dict[str, Any] = dict(profiles_of.profile(used, group, choices.ranges, exact, most))
        for name in (p.name for p in used if there[p.name]["shape_input"]):
            best = profiles_of.heaviest(used, group).inputs if group else {}
            made[name] = {**made[name], "values": profiles_of.values(name, group, best)}
        found.append(made)
    return found


def written(out: Path, name: str, made: Made) -> dict[str, Any]:
    """Write the plan's files: the engine's name, and the sha256 of each."""
    layers = made.layers.encode()
    for file, content in ((name, made.content), (LAYERS, layers), (cache.SHIPPED, made.timings)):
        disk.write(out / file, content)
    contents = {"engine": made.content, "layers": layers, "timings": made.timings}
    digests = {key: cache.digest(content) for key, content in contents.items()}
    if (out / ONNX).is_file():
        digests["onnx"] = store.digest_file(out / ONNX)
    return {"engine_file": name, "digests": digests}


def story(found: networks.Graph, choices: Choices, who: Identity) -> dict[str, Any]:
    """Whom it is for, what was set, and what became of the graph."""
    return {
        **dataclasses.asdict(who),
        "compatible": {
            "version": choices.version_compatible,
            "hardware": choices.hardware_compatibility,
        },
        "tf32": choices.tf32,
        "threads": choices.threads,
        "cuda_graph": choices.cuda_graph,
        "stripped": choices.strip_plan,
        "onnx": ONNX if choices.strip_plan else "",
        "plugins": dict(found.plugins),
        "refused": list(found.refused),
        "opset": found.opset,
        "ir_version": found.ir_version,
    }


def placement(layers: str, found: networks.Graph, choices: Choices) -> tuple[Placement | None, str]:
    """Where each layer runs and in which precision, beside what the graph asks for; or why the
    inspector's text could not be read, which costs the ledger and not the plan."""
    planned = "GPU" if choices.dla is None else "DLA"
    try:
        return ledgers.placement(layers, planned, asked(found.model())), ""
    except CandidateBroken as error:
        return None, str(error)
