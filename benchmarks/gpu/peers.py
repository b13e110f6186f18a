"""The same ops as a torch user writes them: one function a kernel, on the kernel's own inputs.

Each takes the inputs by name and the baked constants, with the dtype among them, and gives the outputs by name. They are timed
as they stand (eager) and through torch.compile; tests/benchmarks/test_gpu_peers.py compares them on a CPU with
the kernels' references, so that the arms are right before they meet a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation

from accel.values import Options

Tensors = Mapping[str, Any]
UNCOMPILED = {"nms": "a step a box: torch.compile would unroll the loop"}
GREY = 114.0


def residual_layernorm(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """Add, then layer_norm."""
    s = inputs["x"] + inputs["residual"]
    y = F.layer_norm(s, s.shape[-1:], inputs["gamma"], inputs["beta"], baked["epsilon"])
    return {"y": y, "s": s}


def bias_gelu(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """Add, then gelu."""
    return {"y": F.gelu(inputs["x"] + inputs["bias"], approximate=baked["approximate"])}


def masked_mean_pool_l2(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """As sentence-transformers writes it."""
    x, mask = inputs["x"], inputs["mask"].unsqueeze(-1).to(inputs["x"].dtype)
    pooled = (x * mask).sum(1) / mask.sum(1).clamp(min=baked["min_count"])
    return {"y": F.normalize(pooled, dim=-1, eps=baked["min_norm"])}


def dequant_bias_act_quant(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """Scale, add, activate, then quantize by hand: torch's own wants another layout of types."""
    v = inputs["acc"] * inputs["scale"] + inputs["bias"]
    v = F.gelu(v) if baked["gelu"] else v
    v = F.relu(v) if baked["relu"] else v
    zero_point = inputs["out_zero_point"]
    bounds = torch.iinfo(zero_point.dtype)
    steps = torch.round(v / inputs["out_scale"]) + zero_point
    return {"y": steps.clamp(bounds.min, bounds.max).to(zero_point.dtype)}


def preprocess_image(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """interpolate, pad where a letterbox is asked for, then normalise."""
    image = inputs["image"].permute(0, 3, 1, 2).float()
    tall, wide = baked["height"], baked["width"]
    if baked["letterbox"]:
        scale = min(tall / image.shape[2], wide / image.shape[3])
        inner = [max(1, int(side * scale + 0.5)) for side in image.shape[2:]]
        image = F.interpolate(image, inner, mode="bilinear", align_corners=False)
        top, left = (tall - inner[0]) // 2, (wide - inner[1]) // 2
        edges = (left, wide - inner[1] - left, top, tall - inner[0] - top)
        image = F.pad(image, edges, value=GREY)
    else:
        image = F.interpolate(image, (tall, wide), mode="bilinear", align_corners=False)
    mean, inv_std = (inputs[n].reshape(1, 3, 1, 1) for n in ("mean", "inv_std"))
    return {"y": ((image - mean) * inv_std).to(getattr(torch, baked["dtype"]))}


def nms(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """All images and classes at once, a step a box: torch alone has no batched NMS."""
    low, high = _corners(inputs["boxes"].float(), baked["center_point_box"])  # [B, N, 2]
    scores = inputs["scores"].float()  # [B, C, N]
    left = torch.where(scores > inputs["score_threshold"], scores, -torch.inf)
    area = (high - low).prod(-1)
    chosen = []
    for _ in range(baked["max_output_boxes_per_class"]):
        best, at = left.max(-1)
        chosen.append(torch.where(best > -torch.inf, at, -1))
        own = at.unsqueeze(-1).expand(*at.shape, 2)
        first, last = low.gather(1, own), high.gather(1, own)  # [B, C, 2]
        sides = torch.minimum(last.unsqueeze(2), high.unsqueeze(1)) - torch.maximum(
            first.unsqueeze(2), low.unsqueeze(1)
        )
        shared = sides.clamp(min=0).prod(-1)  # [B, C, N]
        union = area.gather(1, at).unsqueeze(-1) + area.unsqueeze(1) - shared
        left = left.masked_fill(shared / union > inputs["iou_threshold"], -torch.inf)
        left = left.scatter(-1, at.unsqueeze(-1), -torch.inf)
    indices = torch.stack(chosen, -1).int()
    return {"indices": indices, "count": (indices >= 0).sum(-1, dtype=torch.int32)}


def matmul_dequant_int4(inputs: Tensors, baked: Options) -> dict[str, Any]:
    """Dequantize the whole weight, then multiply: what torch does without a kernel of its own."""
    x, scales = inputs["x"], inputs["scales"]
    zeros = _unpacked(inputs["zero_points"])[:, : scales.shape[1]].to(x.dtype)
    q = _unpacked(inputs["packed"]).to(x.dtype).unflatten(1, (-1, baked["group"]))
    weights = (q - zeros.unsqueeze(-1)) * scales.unsqueeze(-1)
    return {"y": x @ weights.flatten(1).T}


def _unpacked(packed: Any) -> Any:
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1)


def _corners(boxes: Any, centred: int) -> tuple[Any, Any]:
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return first - second * 0.5, first + second * 0.5
    return torch.minimum(first, second), torch.maximum(first, second)
