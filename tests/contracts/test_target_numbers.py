"""The numbers in profiles/: each has its source beside it, and the arithmetic there is right."""

from __future__ import annotations

import math
import re
import tomllib

import pytest

from accel import catalog, target

WANTED = [  # at least
    *("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor"),
    *("t4", "a10", "l4", "l40s", "a100", "h100", "h200", "b200", "rtx-4090", "rtx-5090"),
    *("cpu-local", "cpu-x86-avx512-vnni", "cpu-x86-amx", "cpu-arm64-neon"),
]
DTYPES = ("float32", "tf32", "float16", "bfloat16", "float8", "int8", "int4", "float4")
TENSOR = {  # what the tensor cores of a capability know; CUDA C++ Programming Guide and PTX ISA
    "7.5": {"float16", "int8", "int4"},
    "8.0": {"tf32", "float16", "bfloat16", "int8", "int4"},
    "8.6": {"tf32", "float16", "bfloat16", "int8", "int4"},
    "8.7": {"tf32", "float16", "bfloat16", "int8"},  # int4: no rate is printed
    "8.9": {"tf32", "float16", "bfloat16", "float8", "int8", "int4"},
    "9.0": {"tf32", "float16", "bfloat16", "float8", "int8"},
    "10.0": {"tf32", "float16", "bfloat16", "float8", "int8", "float4"},
    "11.0": {"tf32", "float16", "bfloat16", "float8", "int8", "float4"},
    "12.0": {"tf32", "float16", "bfloat16", "float8", "int8", "float4"},
}
LANES = {"7.5": 64, "8.0": 64}  # of float32 in a multiprocessor; 128 on the others
LINE = re.compile(r'^"?(\w+)"? = ([\d.e+-]+)(?:  # (.+))?$')
PRODUCT = re.compile(r"([\d.e]+(?: SMs| lanes)?(?: x [\d.e]+(?: lanes)?)+)")


def _text(name: str) -> str:
    return (catalog.ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8")


def _numbers(name: str) -> list[tuple[str, float, str]]:
    """Key, number and comment, on its line or else on the one before."""
    lines = _text(name).splitlines()
    found = []
    for i, line in enumerate(lines):
        if match := LINE.match(line):
            above = lines[i - 1] if lines[i - 1].startswith("# ") else ""
            found.append((match[1], float(match[2]), match[3] or above.removeprefix("# ")))
    return found


GPUS = [n for n in catalog.names("profiles") if target.load(n).compute_capability]


def test_every_device_that_is_promised_has_a_profile() -> None:
    """Jetson modules, server and desktop cards, processors."""
    assert set(WANTED) <= set(catalog.names("profiles"))


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_every_number_says_where_it_is_from(name: str) -> None:
    """A comment on its line, or on the line before; a rule of this test finds every number."""
    numbers = _numbers(name)
    data = tomllib.loads(_text(name))
    values = [
        *data.values(),
        *(v for t in data.values() if isinstance(t, dict) for v in t.values()),
    ]
    assert len(numbers) == sum(type(v) in (int, float) for v in values)
    if not target.load(name).local:
        assert [key for key, _, comment in numbers if len(comment) < 6] == []


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_described_whole(name: str) -> None:
    """Processor, name, multiprocessors, memory, bandwidth, a rate for each dtype that its tensor
    cores know, power, software, engines and recipes."""
    found = target.load(name)
    assert found.gpu
    assert found.architecture == ("aarch64" if name.startswith("jetson") else "x86_64")
    assert found.multiprocessors
    assert found.memory_bytes
    assert found.power_modes_w
    assert {"cuda", "tensorrt"} <= set(found.software)
    assert ("jetpack" in found.software) == name.startswith("jetson")
    assert {"fp32", "fp16", "int8_static"} <= set(found.recipes)
    rates = {rate.removesuffix("_ops_per_s") for rate in found.peaks} - {"bytes_per_s"}
    assert rates == TENSOR[str(found.compute_capability)] | {"float32"}
    assert rates <= set(DTYPES)
    assert ("bf16" in found.recipes) == ("bfloat16" in rates)


@pytest.mark.parametrize("name", GPUS)
def test_rates_follow_from_the_arithmetic_beside_them(name: str) -> None:
    """Multiprocessors x what each does in a clock x clock, within 3 %; float32 is lanes x 2."""
    found = target.load(name)
    for key, value, comment in _numbers(name):
        if not key.endswith("_ops_per_s"):
            continue
        product = PRODUCT.search(comment)
        assert product, f"{key}: no derivation in {comment!r}"
        factors = [float(f.split()[0]) for f in product[1].split(" x ")]
        assert factors[0] == found.multiprocessors, key
        assert math.isclose(math.prod(factors), value, rel_tol=0.03), key
        if key == "float32_ops_per_s":
            assert factors[1:3] == [LANES.get(str(found.compute_capability), 128), 2]


@pytest.mark.parametrize("name", GPUS)
def test_printed_rates_agree_with_the_arithmetic(name: str) -> None:
    """What a datasheet prints in T operations a second, halved where it counts sparsity: within 3 %."""
    for key, value, comment in _numbers(name):
        printed = re.search(
            r"(?:datasheet|whitepaper|brief|specifications): ([\d,.]+)( sparse)?", comment
        )
        if printed and key.endswith("_ops_per_s"):
            tera = float(printed[1].rstrip(",.").replace(",", ""))
            assert math.isclose(tera * 1e12 / (2 if printed[2] else 1), value, rel_tol=0.03), key


@pytest.mark.parametrize("name", GPUS)
def test_narrower_numbers_are_never_slower(name: str) -> None:
    """A floor that is taken of a wider type than what runs is no floor."""
    peaks = target.load(name).peaks
    rate = {dtype: peaks.get(f"{dtype}_ops_per_s", math.nan) for dtype in DTYPES}
    pairs = [("tf32", "float16"), ("float16", "int8"), ("float16", "float8"), ("int8", "int4")]
    for wide, narrow in [*pairs, ("float8", "float4"), ("bfloat16", "float16")]:
        assert not rate[wide] > rate[narrow], (wide, narrow)


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_names_the_engines_that_can_run_on_it(name: str) -> None:
    """TensorRT first; ONNX Runtime's CUDA wheels (1.31) hold code for 7.5 to 9.0 and 12.0 alone."""
    found = target.load(name)
    assert (found.engines[0], found.engines[-1]) == ("tensorrt", "torch_inductor")
    lacking = found.compute_capability in ("10.0", "11.0")
    assert ("onnxruntime_cuda" in found.engines) == (not lacking)
