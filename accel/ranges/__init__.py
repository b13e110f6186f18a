"""Ways to choose the range that a quantized tensor covers: a file each.

Each offers `of(sketch, steps, symmetric) -> (low, high)`: low <= 0 <= high, since 0 must be a value
of the quantized type (padding, ReLU); symmetric is (-a, a). `steps`: 255 of an 8-bit type, 254 of a
symmetric one. A tensor that was never seen, or was 0 throughout, gets (0, 0).
"""
