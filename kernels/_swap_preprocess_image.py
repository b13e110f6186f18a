"""(Resize(Cast(Transpose(image))) * scale - mean) / std  ->  PreprocessImage(image, mean / scale, scale / std)

with height and width of the Resize. The scale may be a Div or a Mul, before the Resize or after it
(its weights add up to one); Sub and what follows may be absent, a product may stand for the quotient,
and a Cast to a 16-bit float may follow. Every Resize of a uint8 image is a site.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.kernels import _swap
from accel.kernels.preprocess_image import BFLOAT16, FLOAT16, FLOAT32, LARGEST_OUTPUT, OP

TO_PLANES = (0, 3, 1, 2)
BEFORE = ("Transpose", "Cast", "Div", "Mul")  # between the bytes and the Resize
WANTED = {  # of a Resize: what the kernel does, and what ONNX takes where nothing is said
    "mode": ("linear", "nearest"),
    "coordinate_transformation_mode": ("half_pixel", "half_pixel"),
    "antialias": (0, 0),
    "exclude_outside": (0, 0),
    "keep_aspect_ratio_policy": ("stretch", "stretch"),
    "axes": (None, None),
}


def _pattern(scaled: str, divided: str, cast: bool) -> Callable[..., Any]:
    """Resize, then what there is of a scale, of Sub and a quotient or a product, and of a Cast."""

    def pattern(op: Any, values: Any, scale: Any, mean: Any, std: Any) -> Any:
        words = {"_allow_other_attributes": True, "_allow_other_inputs": True}
        y = op.Resize(values, **words, _outputs=["resized"])
        if scaled:
            y = getattr(op, scaled)(y, scale)
        if divided:
            y = getattr(op, divided)(op.Sub(y, mean), std)
        return op.Cast(y, _outputs=["cast"], _allow_other_attributes=True) if cast else y

    return pattern


def _image(value: Any) -> tuple[Any, float | None, str]:
    """Back to the bytes: the image, what its values were multiplied by, and why it does not fit."""
    scale: float | None = 1.0
    planes, reason = False, ""
    node = _swap.maker(value, *BEFORE)
    while node is not None and not reason:
        source = node.inputs[0]
        if node.op_type == "Transpose":
            planes = tuple(_swap.attribute(node, "perm", ())) == TO_PLANES
            reason = "" if planes else "its image is not turned from [B, H, W, 3] to planes"
        elif node.op_type == "Cast":
            wide = _swap.attribute(node, "to", FLOAT32) == FLOAT32
            reason = "" if wide else "its arithmetic is not float32"
        else:
            other = node.inputs[1]
            if node.op_type == "Mul" and _swap.constant(source) is not None:
                source, other = other, source
            scale = _times(scale, node.op_type, _swap.scalar(other))
        value, node = source, _swap.maker(source, *BEFORE)
    if not planes and not reason:
        reason = f"its image {_swap.text(value)} is in planes already, not [B, H, W, 3]"
    return value, scale, reason


def _times(scale: float | None, op_type: str, by: float | None) -> float | None:
    if scale is None or not by:
        return None
    return scale / by if op_type == "Div" else scale * by


def _affine(scaled: str, divided: str, before: float | None, scale: Any, mean: Any, std: Any) -> Any:  # fmt: skip
    """mean and inv_std, [3] each, of (v - mean) * inv_std in the image's own units; else None."""
    total = _times(before, scaled, _swap.scalar(scale)) if scaled else before
    shift, by = (_swap.constant(v) if divided else np.float32(n) for v, n in ((mean, 0), (std, 1)))
    if total is None or shift is None or by is None:
        return None
    try:
        shift, by = (np.broadcast_to(v, (1, 3, 1, 1)).ravel().astype(float) for v in (shift, by))
    except ValueError:
        return None
    with np.errstate(divide="ignore"):
        found = shift / total, total / by if divided != "Mul" else total * by
    return found if np.isfinite(found).all() else None


def _check(scaled: str, divided: str) -> Callable[..., Any]:
    def check(context: Any, values: Any, resized: Any, scale: Any = None, mean: Any = None, std: Any = None, cast: Any = None, **_: Any) -> Any:  # fmt: skip
        image, before, reason = _image(values)
        have, made = _swap.sizes(image) or (), _swap.sizes(resized) or ()
        fits = len(have) == 4 and have[3] == 3
        to = cast is not None and _swap.attribute(cast.producer(), "to", FLOAT32)
        return _swap.verdict(
            _swap.dtype(image) != "uint8" and f"its image is {_swap.dtype(image)}, not uint8",
            reason,
            not fits and f"its image is {_swap.text(image)}, not [B, H, W, 3]",
            *_of_resize(resized),
            not _to_fixed(image, resized) and f"its result {_swap.text(resized)} has no fixed size",
            any(s > LARGEST_OUTPUT for s in made[2:] if isinstance(s, int))
            and f"its result has a side above {LARGEST_OUTPUT}",
            _affine(scaled, divided, before, scale, mean, std) is None
            and "its scale, mean or deviation is not a constant, one number a channel",
            to and to not in (FLOAT16, BFLOAT16) and "it is cast to what is not a 16-bit float",
        )

    return check


def _of_resize(resized: Any) -> list[str]:
    node, reasons = resized.producer(), []
    for name, (wanted, otherwise) in WANTED.items():
        found = _swap.attribute(node, name, otherwise)
        found = found.decode() if isinstance(found, bytes) else found
        if found != wanted:
            reasons.append(f"its {name} is {found}, not {wanted}")
    if len(node.inputs) < 4 or node.inputs[3] is None:
        reasons.append("it has scales, not sizes: its result has no fixed size")
    return reasons


def _to_fixed(image: Any, resized: Any) -> bool:
    """Does it keep images and channels, and are height and width known?"""
    have, made = _swap.sizes(image), _swap.sizes(resized)
    if have is None or made is None or len(made) != 4 or made[1] != 3:
        return False
    if not all(isinstance(side, int) for side in made[2:]):
        return False
    return made[0] == have[0] or _from_shape(resized.producer(), have[0])


def _from_shape(resize: Any, images: Any) -> bool:
    """Are its sizes joined from the first two of a Shape with as many images?"""
    joined = resize.inputs[3].producer()
    lead = joined.inputs[0].producer() if joined and joined.op_type == "Concat" else None
    if lead is not None and lead.op_type == "Slice":
        lead = lead.inputs[0].producer()
    if lead is None or lead.op_type != "Shape":
        return False
    return bool((_swap.sizes(lead.inputs[0]) or (None,))[0] == images)


def _rewrite(scaled: str, divided: str) -> Callable[..., Any]:
    def rewrite(op: Any, values: Any, resized: Any, scale: Any = None, mean: Any = None, std: Any = None, cast: Any = None, **_: Any) -> Any:  # fmt: skip
        import onnx_ir

        image, before, _reason = _image(values)
        found = _affine(scaled, divided, before, scale, mean, std)
        tensors = (onnx_ir.tensor(v.astype(np.float32)) for v in found)
        height, width = (_swap.sizes(resized) or ())[2:]
        to = FLOAT32 if cast is None else _swap.attribute(cast.producer(), "to", FLOAT32)
        inputs = (image, *(op.Constant(value=t) for t in tensors))
        return _swap.put(op, OP, inputs, height=height, width=width, letterbox=0, to=to)

    return rewrite


def _explain(resize: Any) -> str:
    """A Resize alone is a pattern of its own, so that a check's reason comes before this one."""
    image, _, _ = _image(resize.inputs[0])
    return "the nodes around it do not fit" if _swap.dtype(image) == "uint8" else ""


RULES = tuple(  # what takes in the most comes first
    _swap.Rule(
        _pattern(scaled, divided, cast),
        _check(scaled, divided),
        _rewrite(scaled, divided),
        ("Resize",),
        _explain,
        commute=True,
    )
    for divided, scaled, cast in itertools.product(
        ("Div", "Mul", ""), ("Div", "Mul", ""), (True, False)
    )
)
