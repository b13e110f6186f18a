"""Kernels on NVIDIA GPUs: compile, assemble, count, simulate and launch what kernels/ holds."""
