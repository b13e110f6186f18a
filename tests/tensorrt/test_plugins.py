"""Kernels as TensorRT plugins, as far as a machine without a GPU can tell.

TensorRT's Python code is the real one, of the wheels that `make` puts under .venv; the libraries beneath
it are stubs, and what they would hand over is faked (contract.py)."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from accel import catalog, target
from accel.cuda import ptx
from accel.engines import _tensorrt_attributes as attributes
from accel.engines import _tensorrt_plugins as plugins
from accel.errors import CandidateBroken, MissingExtra

ROOT = Path(__file__).parents[2]
VERSIONS = ("10.13.3.9", "10.16.1.11", "11.4.0.106")  # the oldest, and the newest of each major
TARGET = target.load("jetson-orin-nano")  # PTX 8.5 at the most
KERNELS = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
TYPED = [(name, dtype) for name, member in KERNELS.items() for dtype in member.DTYPES]
LONG = {  # attributes of several elements
    key
    for member in KERNELS.values()
    for key, value in member.VARIANTS[0].items()
    if isinstance(value, (str, list, tuple))
}
Findings = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def findings(stubs: Path, package: Callable[[str], Path]) -> Iterator[Findings]:
    """What contract.py found with a version of TensorRT; all that are there are started at once."""
    started: dict[str, Any] = {}
    with ThreadPoolExecutor(len(VERSIONS)) as pool:
        for version in VERSIONS:
            with contextlib.suppress(pytest.skip.Exception):
                started[version] = pool.submit(_contract, stubs, version, package(version))

        def found(version: str) -> dict[str, Any]:
            package(version)
            return dict(started[version].result())

        yield found


def _contract(stubs: Path, version: str, package: Path) -> dict[str, Any]:
    """The wheel's package goes by the name that TensorRT itself gives it: `tensorrt`."""
    site, out = stubs / version, stubs / f"{version}.json"
    site.mkdir()
    (site / "tensorrt").symlink_to(package)
    paths = {"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    compiled = "all" if version == VERSIONS[-1] else "residual_layernorm"
    script = Path(__file__).parent / "contract.py"
    words = [sys.executable, str(script), str(out), TARGET.name, compiled]
    done = subprocess.run(words, env={**os.environ, **paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(out.read_text(encoding="utf-8")))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_tensorrt_gets_the_kernel_as_it_is(
    name: str, dtype: str, version: str, findings: Findings
) -> None:
    """Types, shapes, formats, geometry and int32 arguments of every case, from symbols, are the
    kernel's own; the PTX takes inputs, then int32, then outputs, in a version that the target loads."""
    member, found = KERNELS[name], findings(version)
    if found["registered"][name]:
        assert LONG & plugins.Plugin(name, "8.7").attributes.keys()
        return  # refused, as test_words_are_refused_where_tensorrt_cannot_read_them wants it
    runs = found["runs"][f"{name}-{dtype}"]
    assert len(runs) == len(list(member.cases(dtype))) > 0
    for case, run in zip(member.cases(dtype), runs, strict=True):
        baked = case.baked or member.VARIANTS[0]
        shapes = {n: a.shape for n, a in case.inputs.items()}
        signature, launch = member.signature(dtype, baked), member.launch(shapes, dtype, baked)
        types = {n: plugins.TYPES[k] for n, k in (*signature.inputs, *signature.outputs)}
        assert run["formats"] == [[kind, "LINEAR"] for kind in types.values()]
        sizes = member.output_shapes(shapes, baked)
        assert run["outputs"] == [[types[n], list(sizes[n])] for n, _ in signature.outputs]
        assert (*run["grid"], *run["block"]) == (*launch.grid, *launch.block)
        assert run["scalars"] == list(launch.scalars)
        assert (run["shared_bytes"], run["tactics"]) == (0, [])
        assert run["entry"] == f"accel_{name}_{dtype}"
        if run is runs[0] and (version == VERSIONS[-1] or name == "residual_layernorm"):
            assert re.search(r"^\.version (8\.[0-5])$", run["ptx"], re.MULTILINE)
            assert re.search(r"^\.target sm_87$", run["ptx"], re.MULTILINE)
            assert ptx._parameters(run["ptx"]) == _contracted(signature)


def _contracted(signature: Any) -> tuple[str, ...]:
    """Pointers to inputs, int32 scalars, pointers to outputs."""
    inputs, outputs = (["u64"] * len(ports) for ports in (signature.inputs, signature.outputs))
    return (*inputs, *["u32"] * len(signature.scalars), *outputs)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_process_holds_the_plugins_of_one_target(version: str, findings: Findings) -> None:
    """The same target again is no error; another one is refused with the way out."""
    found = findings(version)
    assert found["version"] == version
    assert found["again"] == found["registered"]
    taken = [name for name, reason in found["registered"].items() if not reason]
    assert "residual_layernorm" in taken
    assert all("in a process of its own" in found["other"][name] for name in taken)


@pytest.mark.parametrize("version", VERSIONS)
def test_words_are_refused_where_tensorrt_cannot_read_them(
    version: str, findings: Findings
) -> None:
    """Before 10.16 TensorRT takes "tanh" for "tttt" under numpy 2; no other kernel is refused."""
    garbled = version < "10.16" and int(np.__version__.partition(".")[0]) >= 2
    for name, reason in findings(version)["registered"].items():
        long = LONG & plugins.Plugin(name, "8.7").attributes.keys()
        assert bool(reason) == (garbled and bool(long))
        assert not reason or "reads as copies of the first" in reason


@pytest.mark.parametrize("version", VERSIONS)
def test_a_network_that_a_kernel_cannot_serve_is_refused(version: str, findings: Findings) -> None:
    """A last axis that is open until run time, and types that it is not compiled for: in words."""
    found = findings(version)
    assert "needs a size of x or residual" in found["open"]
    assert "open until the engine runs. Export the model with the last axis" in found["open"]
    assert "no code for inputs of types INT32, INT32, INT32, INT32" in found["integers"]
    assert "compiled for float32, float16, bfloat16" in found["integers"]


@pytest.mark.parametrize("like", [1e-12, 1e-5, 0.5, 1 / 255])
def test_a_float_attribute_comes_back_as_it_was_written(like: float) -> None:
    """ONNX keeps 32 bits of it; the constant baked from them is the same in float32."""
    found = attributes.constant(np.array([like], np.float32), like)
    assert np.float32(found) == np.float32(like)
    assert found == float(f"{like:.7g}")


def test_other_attributes_come_back_as_they_were_written() -> None:
    """Strings lose the NUL that the parser ends them with; integers, flags and lists keep their kind."""
    assert attributes.constant("tanh\0", "none") == "tanh"
    assert attributes.constant(np.array([7]), 1) == 7
    assert attributes.constant(np.array([1]), False) is True
    assert attributes.constant(np.array([0.485, 0.25], np.float32), [1.0]) == [0.485, 0.25]


def test_a_word_that_no_variant_has_is_refused() -> None:
    """A kernel would take it for its last branch."""
    with pytest.raises(CandidateBroken, match=r"approximate='tttt'.*one of none, tanh"):
        attributes.baked(KERNELS["bias_gelu"], {"approximate": "tttt"}, {"approximate": "none"})


class Fake(ModuleType):
    """A fake of tensorrt.plugin: it keeps the functions that are registered with it."""

    class TensorDesc:
        """Stands for the class of that name, as do the three below."""

    AutoTuneCombination = type("AutoTuneCombination", (), {})
    KernelLaunchParams = type("KernelLaunchParams", (), {})
    SymIntExprs = type("SymIntExprs", (), {})

    def __init__(self) -> None:
        super().__init__("tensorrt.plugin")
        self.op = SimpleNamespace()
        self.found: dict[str, inspect.Signature] = {}

    def __getattr__(self, kind: str) -> Any:
        if kind.startswith("__"):
            raise AttributeError(kind)
        return lambda name: lambda f: self.found.update({f"{kind} {name}": inspect.signature(f)})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A fake TensorRT 10.13 in place of the real one, if there is one."""
    package, found = ModuleType("tensorrt"), Fake()
    field = lambda _name, data, _kind: SimpleNamespace(data=data)  # noqa: E731
    kinds = SimpleNamespace(INT64=None)
    package.__dict__.update(__version__="10.13.0.35", plugin=found)
    package.__dict__.update(PluginField=field, PluginFieldType=kinds)
    monkeypatch.setitem(sys.modules, "tensorrt", package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", found)
    plugins._register.cache_clear()
    yield found
    plugins._register.cache_clear()


@pytest.mark.parametrize("name", KERNELS)
def test_signatures_are_those_that_tensorrt_demands(name: str, fake: Fake) -> None:
    """Inputs, attributes, `outputs`, `tactic`, by these names, each with its type: no TensorRT needed."""
    assert plugins.register(TARGET, [name]) == {name: None}
    member = KERNELS[name]
    signature = member.signature(member.DTYPES[0], member.VARIANTS[0])
    tensors = [n for n, _ in signature.inputs]
    named = list(plugins.Plugin(name, "8.7").attributes)
    assert not {*tensors, *named} & {"outputs", "stream", "tactic"}
    described, tuned, compiled = (
        fake.found[f"{kind} accel::{member.OP}"] for kind in ("register", "autotune", "aot_impl")
    )
    assert list(described.parameters) == [*tensors, *named]
    assert list(tuned.parameters) == [*tensors, *named, "outputs"]
    assert list(compiled.parameters) == [*tensors, *named, "outputs", "tactic"]
    assert described.return_annotation == tuple[(Fake.TensorDesc,) * len(signature.outputs)]
    assert compiled.return_annotation.__args__[:2] == (str, str)
    assert all(p.annotation is not inspect.Parameter.empty for p in compiled.parameters.values())


def test_an_old_tensorrt_is_refused_with_the_reason(fake: Fake) -> None:
    """Every kernel, in place of an error: an engine can still be built without them."""
    sys.modules["tensorrt"].__dict__["__version__"] = "10.12.0.36"
    refusals = plugins.register(TARGET)
    assert refusals.keys() == KERNELS.keys()
    for refusal in refusals.values():
        assert refusal
        assert "TensorRT 10.12.0.36 is installed" in refusal.reason
        assert "10.13 or newer" in refusal.reason


def test_a_target_without_a_gpu_is_refused_with_the_reason(fake: Fake) -> None:
    """There is nothing to compile for."""
    refusal = plugins.register(target.load("cpu-local"), ["residual_layernorm"])
    assert "'cpu-local' has no compute_capability" in str(refusal["residual_layernorm"])


def test_without_tensorrt_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of every family member whose library is absent."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"accel-inference\[tensorrt\]"):
        plugins.register(TARGET)
