"""ONNX bodies of the vision kernels, in the text form that onnx.parser reads; {op}, {opset} are filled in."""

from __future__ import annotations

NMS = """
<domain: "accel.kernels", opset_import: ["": {opset}]>
{op} <max_output_boxes_per_class, center_point_box>
    (boxes, scores, iou_threshold, score_threshold) => (indices, count)
{{
    zero = Constant <value_int = 0> ()
    one = Constant <value_ints = [1]> ()
    thirds = Constant <value_ints = [1, 1, 1]> ()
    flat = Constant <value_ints = [-1]> ()
    limit = Constant <value_int: int = @max_output_boxes_per_class> ()
    kept = Reshape (limit, one)
    rows = Shape <start = 0, end = 2> (scores)
    classes = Shape <start = 1, end = 2> (scores)
    count_of_rows = ReduceProd <keepdims = 1> (rows)

    boxes32 = Cast <to = 1> (boxes)
    scores32 = Cast <to = 1> (scores)
    selected = NonMaxSuppression <center_point_box: int = @center_point_box>
        (boxes32, scores32, limit, iou_threshold, score_threshold)
    image, label, box = Split <axis = 1> (selected, thirds)
    before = Mul (image, classes)
    row_of = Add (before, label)
    row = Reshape (row_of, flat)

    selections = Shape (row)
    ones = Expand (one, selections)
    none = ConstantOfShape <value: tensor = int64[1] {{0}}> (count_of_rows)
    per_row = ScatterElements <axis = 0, reduction = "add"> (none, row, ones)
    starts = CumSum <exclusive = 1> (per_row, zero)
    start = Gather (starts, row)
    number = CumSum <exclusive = 1> (ones, zero)
    rank = Sub (number, start)

    room = Mul (count_of_rows, kept)
    blank = ConstantOfShape <value: tensor = int32[1] {{-1}}> (room)
    offset = Mul (row, kept)
    place = Add (offset, rank)
    boxes_flat = Reshape (box, flat)
    chosen = Cast <to = 6> (boxes_flat)
    filled = ScatterElements <axis = 0> (blank, place, chosen)
    sizes = Concat <axis = 0> (rows, kept)
    indices = Reshape (filled, sizes)
    per_row32 = Cast <to = 6> (per_row)
    count = Reshape (per_row32, rows)
}}
"""

PREPROCESS_IMAGE = """
<domain: "accel.kernels", opset_import: ["": {opset}]>
{op} <height, width, letterbox, to> (image, mean, inv_std) => (y)
{{
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    three = Constant <value_ints = [3]> ()
    none = Constant <value_ints = [0, 0]> ()
    channels = Constant <value_ints = [3, 1, 1]> ()
    grey = Constant <value_float = {grey}> ()
    height0 = Constant <value_int: int = @height> ()
    width0 = Constant <value_int: int = @width> ()
    letterbox0 = Constant <value_int: int = @letterbox> ()
    fits = Cast <to = 9> (letterbox0)
    height1 = Reshape (height0, one)
    width1 = Reshape (width0, one)
    size = Concat <axis = 0> (height1, width1)
    across = Concat <axis = 0> (width1, height1)
    images = Shape <start = 0, end = 1> (image)
    have = Shape <start = 1, end = 3> (image)
    have_height = Shape <start = 1, end = 2> (image)
    have_width = Shape <start = 2, end = 3> (image)
    other = Concat <axis = 0> (have_width, have_height)

    twice = Mul (two, have)
    scaled = Mul (twice, across)
    half_up = Add (scaled, other)
    under = Mul (two, other)
    rounded = Div (half_up, under)
    at_least = Max (rounded, one)
    fitted = Min (at_least, size)
    used = Where (fits, fitted, size)
    rest = Sub (size, used)
    before = Div (rest, two)
    after = Sub (rest, before)
    pads = Concat <axis = 0> (none, before, none, after)
    sizes = Concat <axis = 0> (images, three, used)

    planes = Transpose <perm = [0, 3, 1, 2]> (image)
    values = Cast <to = 1> (planes)
    resized = Resize <mode = "linear"> (values, , , sizes)
    padded = Pad (resized, pads, grey)
    mean3 = Reshape (mean, channels)
    inv_std3 = Reshape (inv_std, channels)
    centred = Sub (padded, mean3)
    scaled_values = Mul (centred, inv_std3)
    y = Cast <to: int = @to> (scaled_values)
}}
"""
