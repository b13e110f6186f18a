"""weight_only: the weights of matrix products in int4 or int8, in blocks along K; activations stay float32.

    y[m, n] = sum_k x[m, k] s[k / block, n] q[k, n] (+ b[n])

For products that wait for their weights, as a decoder's do at batch 1: of 4 bits an eighth of the bytes is
read. One that computes for longer than it reads only gets the unpacking on top. Rounded to nearest, with the
scale of least squared error for each block (accel.qdq.blocks), so no data is needed. (Of weights alone:
Frantar et al., GPTQ, ICLR 2023, arXiv 2210.17323; of 8 bits: Dettmers et al., LLM.int8(), arXiv 2208.07339.)

Two forms. ONNX Runtime has a kernel, MatMulNBits of com.microsoft (docs/ContribOperators.md). For the others
it is MatMul(x, DequantizeLinear(q, s, axis=0, block_size)) of opset 21, whose integers they keep: OpenVINO of
4 and 8 bits (Weight Compression), TensorRT of 4 (Working with Quantized Types). A Gemm becomes MatMul and Add.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import helper, numpy_helper

from accel import graph
from accel.errors import CandidateBroken, UsageError
from accel.protocols import Quantized
from accel.qdq import blocks, order
from accel.qdq.sites import PRODUCTS, UNTYPED, Site, sites, untyped
from accel.recipes import _kept, _raise
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False
STANDARD = {"openvino", "tensorrt"}  # read no operators of ONNX Runtime's own
BLOCKED_OPSET, BLOCKED_IR = 21, 10  # DequantizeLinear's block_size, and int4 (ONNX 1.16)
LEAST = 1 << 10  # numbers: a smaller weight is in the first cache anyway
# MatMulNBits' accuracy_level: the type that activations have inside (ContribOperators.md)
LEVELS = {"float32": 1, "int8": 4}


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """What the engine has kernels of, the quickest first. (benchmarks/weights.py)

    ONNX Runtime on a CPU has none of 8 bits beside float activations: each call unpacks the whole weight, and
    took 14 times as long as float32. OpenVINO's settings say whether activations are rounded."""
    four, eight = {"bits": 4, "block": 32}, {"bits": 8, "block": 128}
    if "tensorrt" in style.operators:
        return ({"bits": 4, "block": 128},)
    if {"openvino", "onnxruntime_cuda"} & set(style.operators):
        return (four, eight)
    rounded = {"activations": "int8"}
    return ({**four, **rounded}, {**eight, **rounded}, four)


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Options: "bits", 4 or 8; "block", how many k share a scale, a power of 2 from 16 on; and for ONNX
    Runtime "activations": "int8" has them rounded inside of the kernel.

    Raises CandidateBroken where no weight is left to round, UsageError for another width or type."""
    how = _how(style, options)
    made = graph.dense(model.path)
    if how.standard:
        made = _raise.raised(made, BLOCKED_OPSET)
    chosen, kept = _judged(made, how)
    if not chosen:
        why = _kept.reasons(kept) if kept else "no product of the main graph reads a constant"
        raise CandidateBroken(f"there is no weight to round to {how.bits} bits: {why}")
    left = sum(n.op_type in PRODUCTS for n in graph.walk(made)) - len(chosen)
    noise_db = _write(made, chosen, how)
    path = out / "model.onnx"
    graph.save(made, path)
    facts: dict[str, Any] = {
        f"int{how.bits}": len(chosen),
        "float32": left,
        **({"kept in fp32": _kept.reasons(kept)} if kept else {}),
        "weights' SQNR, dB": noise_db,
    }
    line = f"weight_only int{how.bits} in blocks of {how.block}, {len(chosen)} products"
    described = graph.describe(path, (*model.trail, line))
    return Quantized(described, facts, how.standard, "" if how.standard else "onnxruntime")


@dataclass(frozen=True)
class _How:
    """What is written."""

    bits: int
    block: int
    standard: bool  # DequantizeLinear and MatMul; else MatMulNBits
    level: int  # MatMulNBits' accuracy_level


def _how(style: QuantStyle, options: Options) -> _How:
    standard = bool(STANDARD & set(style.operators))
    level = LEVELS.get(str(options.get("activations", "float32")))
    if options["bits"] not in (4, 8) or level is None or (standard and "activations" in options):
        raise UsageError(
            f"weight_only takes bits 4 or 8 and, for ONNX Runtime, activations {' or '.join(LEVELS)}; "
            f"not {dict(options)}"
        )
    return _How(int(options["bits"]), int(options["block"]), standard, level)


def _judged(proto: Any, how: _How) -> tuple[list[Site], Counter[str]]:
    """The products whose weights are rounded, and how many are kept, by reason."""
    sizes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    chosen: list[Site] = []
    kept = Counter({UNTYPED: unknown} if (unknown := untyped(proto)) else {})
    for site in sites(proto):
        if site.operator not in PRODUCTS:
            continue
        why = _against(proto.graph.node[site.index], site, sizes, how)
        if why:
            kept[why] += 1
        else:
            chosen.append(site)
    return chosen, kept


def _against(node: Any, site: Site, sizes: Mapping[str, tuple[int, ...]], how: _How) -> str:
    """Why a product keeps its float weight; empty where it does not."""
    if site.weight is None:
        return "of two activations"
    if site.operator not in ("MatMul", "Gemm"):
        return "convolution"
    shape = sizes[site.weight.name]
    if site.weight.slot != 1 or len(shape) != 2:
        return "not by a matrix on the right"
    if np.prod(shape) < LEAST:
        return "small"
    if (
        _option(node, "transA", 0)
        or _option(node, "alpha", 1) != 1
        or _option(node, "beta", 1) != 1
    ):
        return "scaled or transposed"
    depth = shape[1] if _option(node, "transB", 0) else shape[0]
    if how.standard and depth % how.block:
        return f"of a K that {how.block} does not divide"
    return ""


def _option(node: Any, name: str, default: float) -> float:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else float(helper.get_attribute_value(found))


def _write(made: Any, chosen: Sequence[Site], how: _How) -> float:
    """Change these products of `made`, in place; returns the weights' signal to rounding error, in dB."""
    tensors = {t.name: t for t in made.graph.initializer}
    stored: dict[str, tuple[float, float]] = {}  # name -> (squares of the weight, of its error)
    first: list[Any] = []
    behind: dict[str, list[Any]] = {}
    for site in chosen:
        node = made.graph.node[site.index]
        turned = bool(_option(node, "transB", 0))
        name = f"{node.input[1]}__{'turned_' if turned else ''}int{how.bits}"
        weight = numpy_helper.to_array(tensors[node.input[1]])
        weight = weight.T if turned else weight
        if name not in stored:
            parts, stored[name] = _parts(weight, name, how)
            made.graph.initializer.extend(parts)
        first += _dequantized(site.name, name, how) if how.standard else []
        bias = node.input[2] if len(node.input) > 2 else ""
        product = f"{node.output[0]}__product" if bias else node.output[0]
        if bias:
            add = f"{site.name}__bias"
            behind[product] = [helper.make_node("Add", [product, bias], [node.output[0]], add)]
        node.CopyFrom(_product(node, site.name, name, product, weight.shape, how))
    order.insert(made, first, behind)
    order.drop_unread(made)
    _declare(made, how)
    signal, error = (sum(column) for column in zip(*stored.values(), strict=True))
    return round(10 * float(np.log10(signal / error)), 1) if signal and error else 0.0


def _parts(
    weight: np.ndarray[Any, Any], name: str, how: _How
) -> tuple[list[Any], tuple[float, float]]:
    """The integers and the scales of a weight [K, N], and the squares that `_write` tells of."""
    q, scales = blocks.rounded(weight, how.bits, how.block)
    lost = weight - blocks.back(q, scales, how.block)
    whole: np.ndarray[Any, Any] = q.astype(ml_dtypes.int4) if how.bits == 4 else q
    if not how.standard:
        whole, scales = blocks.by_column(q, how.bits, how.block), np.ascontiguousarray(scales.T)
    parts = [numpy_helper.from_array(v, n) for v, n in ((whole, name), (scales, f"{name}__scale"))]
    return parts, (float(np.square(weight).sum(dtype=np.float64)), float(np.square(lost).sum(dtype=np.float64)))  # fmt: skip


def _dequantized(site: str, name: str, how: _How) -> list[Any]:
    """A node for each reader: TensorRT shares none."""
    options = {"axis": 0, "block_size": how.block}
    parts = [name, f"{name}__scale"]
    return [helper.make_node("DequantizeLinear", parts, [f"{site}__weight"], f"{site}__DQ", **options)]  # fmt: skip


def _product(node: Any, site: str, name: str, out: str, shape: tuple[int, ...], how: _How) -> Any:
    """x W', by the node's name."""
    if how.standard:
        return helper.make_node("MatMul", [node.input[0], f"{site}__weight"], [out], node.name)
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], name, f"{name}__scale"],
        [out],
        node.name,
        domain="com.microsoft",
        K=shape[0],
        N=shape[1],
        bits=how.bits,
        block_size=how.block,
        accuracy_level=how.level,
    )


def _declare(made: Any, how: _How) -> None:
    """The versions that the new nodes need."""
    if how.standard:
        made.ir_version = max(made.ir_version, BLOCKED_IR)
    elif not any(o.domain == "com.microsoft" for o in made.opset_import):
        made.opset_import.add(domain="com.microsoft", version=1)
