"""accel: the fastest engine that provably keeps its accuracy on a given device."""

__version__ = "0.1.0"
