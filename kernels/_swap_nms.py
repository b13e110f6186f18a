"""selected = NonMaxSuppression(boxes, scores, most, iou, score)  ->  indices, _ = GreedyNms(...), then
the rows of `selected` from the places of `indices` that are not -1: NonZero, in the same order

No exporter writes a fixed number of rows: torchvision and YOLO's exports give the operator as it is,
and gather what it selected. So the number stays the graph's own, and what reads it needs no change:
[selected, 3] int64 before and after, equal in every row. Every NonMaxSuppression is a site. The places
are as many as may be kept, or as there are boxes where that is fewer; both must be known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.kernels import _swap
from accel.kernels.nms import MOST, OP

NAMES = ("boxes", "scores", "max_output_boxes_per_class", "iou_threshold", "score_threshold")


def _pattern(op: Any, boxes: Any, scores: Any) -> Any:
    words = {"_allow_other_attributes": True, "_allow_other_inputs": True}
    return op.NonMaxSuppression(boxes, scores, **words, _outputs=["selected"])


def _given(selected: Any) -> dict[str, Any]:
    """Its inputs by name; None for one that is absent."""
    inputs = list(selected.producer().inputs)
    return dict(zip(NAMES, inputs + [None] * (len(NAMES) - len(inputs)), strict=True))


def _boxes(scores: Any) -> Any:
    sizes = _swap.sizes(scores)
    return sizes[2] if sizes and len(sizes) == 3 else None


def _check(context: Any, boxes: Any, scores: Any, selected: Any) -> Any:
    given, known = _given(selected), _boxes(scores)
    most = _swap.scalar(given["max_output_boxes_per_class"])
    return _swap.verdict(
        next((f"it has no {name}" for name in NAMES if given[name] is None), ""),
        most is None and "its max_output_boxes_per_class is not a constant",
        most is not None and most < 1 and f"its max_output_boxes_per_class is {most:.0f}",
        not isinstance(known, int)
        and f"the number of its boxes is not known: its scores are {_swap.text(scores)}",
        isinstance(known, int) and known > MOST and f"it has {known} boxes, more than {MOST}",
    )


def _rewrite(op: Any, boxes: Any, scores: Any, selected: Any) -> Any:
    import onnx_ir

    def integers(*values: int, dtype: Any = np.int64) -> Any:
        return op.Constant(value=onnx_ir.tensor(np.array(values, dtype)))

    given = _given(selected)
    most = min(int(_swap.constant(given["max_output_boxes_per_class"]).ravel()[0]), _boxes(scores))
    centred = _swap.attribute(selected.producer(), "center_point_box", 0)
    inputs = (boxes, scores, given["iou_threshold"], given["score_threshold"])
    baked = {"max_output_boxes_per_class": most, "center_point_box": centred}
    indices, _ = _swap.put(op, OP, inputs, 2, **baked)  # [B, C, most]
    there = op.Not(op.Less(indices, integers(0, dtype=np.int32)))
    places = op.Transpose(op.NonZero(there), perm=[1, 0])  # [selected, 3]: image, class, place
    kept = op.Cast(op.GatherND(indices, places), to=onnx_ir.DataType.INT64)
    rows = op.Slice(places, integers(0), integers(2), integers(1))
    return op.Concat(rows, op.Unsqueeze(kept, integers(1)), axis=1)


def _explain(node: Any) -> str:
    return "its boxes or its scores are not given"  # what the pattern asks for, and no more


RULES = (_swap.Rule(_pattern, _check, _rewrite, ("NonMaxSuppression",), _explain),)
