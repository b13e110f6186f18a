"""Memory for outputs whose sizes TensorRT tells while it runs.

(Python API, IOutputAllocator: its methods are called from execute_async_v3. Code that is new since
TensorRT 9 overrides reallocateOutputAsync and not reallocateOutput: NvInferRuntime.h 11.1)
"""

from __future__ import annotations

from typing import Any

from accel.cuda import device
from accel.errors import CandidateBroken


def allocator(trt: Any, addresses: dict[str, int]) -> Any:
    """An IOutputAllocator that keeps its memory in `addresses`, and the last size as `shape`."""

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shape: tuple[int, ...] = ()
            self.capacity = 0

        def reallocate_output_async(
            self,
            tensor_name: str,
            memory: int,  # noqa: ARG002  the signatures are TensorRT's
            size: int,
            alignment: int,  # noqa: ARG002
            stream: int,  # noqa: ARG002
        ) -> int:
            """The address; 0 tells TensorRT that there is none, since exceptions do not cross it."""
            try:
                if size > self.capacity or tensor_name not in addresses:
                    if tensor_name in addresses:
                        device.free(addresses.pop(tensor_name))
                    addresses[tensor_name] = device.allocate(size)
                    self.capacity = size
            except CandidateBroken:
                return 0
            return addresses[tensor_name]

        def notify_shape(self, tensor_name: str, shape: Any) -> None:  # noqa: ARG002
            self.shape = tuple(int(n) for n in shape)

    return Allocator()
