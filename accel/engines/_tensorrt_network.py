"""An ONNX graph as TensorRT's network: plugins registered, parsed, its types counted.

Networks are strongly typed always: precision is what the graph says. In TensorRT 11 that is the only kind
there is, and the flag for it does nothing (Python API 11.0, NetworkDefinitionCreationFlag).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from accel import catalog, graph
from accel.engines import _tensorrt_errors as troubles
from accel.engines import _tensorrt_plugins as plugins
from accel.engines._tensorrt_names import dtype, member
from accel.errors import CandidateBroken
from accel.values import Options, Target

DOMAIN = "accel.kernels"
MARK = "plugin_namespace"  # what a node carries that may become a plugin
SHOWN = 3  # of the parser's errors


@dataclass(frozen=True)
class Graph:
    """What is parsed: a file, or the file with other content; and what became of its kernels."""

    path: Path
    content: bytes | None  # None: the file as it is
    plugins: Mapping[str, int] = field(default_factory=dict)  # kernel -> nodes
    refused: tuple[str, ...] = ()  # kernels whose nodes were put in as their function's body
    opset: int = 0
    ir_version: int = 0

    def model(self) -> Any:
        """What is parsed, as a ModelProto; weights that lie beside the file stay there."""
        if self.content is None:
            return onnx.load(self.path, load_external_data=False)
        return onnx.load_model_from_string(self.content)


@dataclass(frozen=True)
class Parsed:
    """A network with what must live as long as it: the parser owns its weights."""

    network: Any
    parser: Any
    builder: Any


def prepared(path: Path, target: Target) -> Graph:
    """The graph with each kernel's nodes ready to become plugins of `target`, or inlined where
    TensorRT or the target cannot take them. Raises BadModel for a file that cannot be read."""
    graph.external_data(path)  # refuses weights that lie outside the model's folder
    proto = Graph(path, None).model()
    opset = max(
        (int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0
    )
    story = Graph(path, None, opset=opset, ir_version=int(proto.ir_version))
    nodes = Counter(n.op_type for n in graph.walk(proto) if n.domain == DOMAIN and _marked(n))
    if not nodes:
        return story
    names = {catalog.load("kernels", name).OP: name for name in catalog.names("kernels")}
    known = {names[op]: count for op, count in nodes.items() if op in names}
    answers = plugins.register(target, tuple(known))
    refusals = {name: refusal.reason for name, refusal in answers.items() if refusal}
    refusals |= {op: "no kernel of that name is known here" for op in nodes if op not in names}
    taken = {name: count for name, count in known.items() if name not in refusals}
    refused = tuple(f"kernel {name}: {why}" for name, why in refusals.items())
    content = _inlined(proto, [op for op in nodes if names.get(op, op) in refusals])
    return dataclasses.replace(story, content=content, plugins=taken, refused=refused)


def _marked(node: Any) -> bool:
    return any(a.name == MARK for a in node.attribute)


def _inlined(proto: Any, operators: Sequence[str]) -> bytes | None:
    """The model with these operators' bodies in their nodes' place; None where there are none.

    Left as nodes, an older parser would look for a plugin of the domain's name (10.10 on)."""
    if not operators:
        return None
    chosen = [(f.domain, f.name) for f in proto.functions if f.name in operators]
    left = sorted(set(operators) - {name for _, name in chosen})
    if left:
        raise CandidateBroken(
            f"{', '.join(left)} cannot become plugins here, and the model has no functions of these "
            "names to put in their place. Put the kernels in again: accel swap MODEL"
        )
    made = onnx.inliner.inline_selected_functions(proto, chosen)
    return bytes(made.SerializeToString())


def parse(trt: Any, builder: Any, found: Graph, log: Any) -> Parsed:
    """Raises CandidateBroken with the parser's first error and how many there are."""
    typed = member(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    network = builder.create_network(flags=1 << int(typed))
    parser = trt.OnnxParser(network=network, logger=log)
    if found.content is None:  # from the file, so that weights beside it may be of any size
        right = parser.parse_from_file(model=str(found.path))
    else:
        right = parser.parse(model=found.content, path=str(found.path))
    if not right:
        raise CandidateBroken(_refused(parser, found))
    return Parsed(network, parser, builder)


def _refused(parser: Any, found: Graph) -> str:
    count = parser.num_errors
    errors = [parser.get_error(index=i) for i in range(count)]
    if not errors:
        return f"TensorRT's parser refuses {found.path.name} and says nothing; see the build's log."
    lines = [_error(e) for e in errors[:SHOWN]]
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    advice = troubles.advice([e.desc() for e in errors])
    return (
        f"TensorRT's parser refuses the graph (opset {found.opset}) with {count} "
        f"error{'s' if count > 1 else ''}: {'; '.join(lines)}{more}. {advice}"
    )


def _error(error: Any) -> str:
    """ "node 12 '/conv' (Conv), UNSUPPORTED_NODE: its words"."""
    name, inside = error.node_name(), error.local_function_stack()
    place = f"node {error.node()} {name!r} ({error.node_operator()})"
    within = f" in {' > '.join(inside)}" if inside else ""
    words = " ".join(error.desc().split())[: troubles.SHOWN]
    return f"{place}{within}, {error.code().name}: {words}"


def ports(network: Any) -> list[dict[str, Any]]:
    """Inputs, then outputs, as the engine will have them; an open axis is -1."""
    inputs = [("input", network.get_input(index=i)) for i in range(network.num_inputs)]
    outputs = [("output", network.get_output(index=i)) for i in range(network.num_outputs)]
    return [
        {
            "name": tensor.name,
            "mode": mode,
            "dtype": dtype(tensor.dtype),
            "shape": _sizes(tensor),
            "shape_input": mode == "input" and bool(tensor.is_shape_tensor),
        }
        for mode, tensor in (*inputs, *outputs)
    ]


def _sizes(tensor: Any) -> list[int] | None:
    """None where TensorRT does not know the rank: its Dims then have a length of -1."""
    try:
        return [int(n) for n in tensor.shape]
    except ValueError:
        return None


def layers(network: Any) -> list[Any]:
    """Every layer, in the order of the graph."""
    return [network.get_layer(index=i) for i in range(network.num_layers)]


def census(network: Any) -> Options:
    """How many layers give each type: what the graph asks for, before anything is fused."""
    found: Counter[str] = Counter()
    for layer in layers(network):
        kinds = {dtype(layer.get_output(index=i).dtype) for i in range(layer.num_outputs)}
        found["+".join(sorted(kinds)) or "nothing"] += 1
    return dict(found.most_common())
