"""Hand-written kernels: an op a file."""
