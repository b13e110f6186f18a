"""What every target promises, and how a wrong one is refused."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from pathlib import Path

import pytest

from accel import catalog, pipeline, target
from accel.cuda import cubin
from accel.cuda.ptx import Ptx
from accel.errors import Unmeasured, UsageError
from accel.measure import here
from accel.values import Target

GOOD = 'description = "a box"\nengines = ["onnxruntime_cpu"]\nlocal = true\n'
SM = "\n[sm]\nwarps = 48\nblocks = 16\nregisters = 65536\nshared_bytes = 102400\nreserved_shared_bytes = 1024\n"
LIMITS = {  # CUDA C++ Programming Guide, "Compute Capabilities"
    "7.5": (32, 16, 64, 0),
    "8.0": (64, 32, 164, 1),
    "8.6": (48, 16, 100, 1),
    "8.7": (48, 16, 164, 1),
    "8.9": (48, 24, 100, 1),
    "9.0": (64, 32, 228, 1),
    "10.0": (64, 32, 228, 1),
    "11.0": (48, 24, 228, 1),
    "12.0": (48, 24, 100, 1),
}
GPU = GOOD + 'compute_capability = "8.6"\nptx_version = "9.0"' + SM
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
PEAK = {"ops": (1e9, 1e17), "bytes": (1e8, 1e14)}  # from a small board's core to a large GPU


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_it_parses_and_names_what_exists(name: str) -> None:
    """Engines of the catalog, each once, the device described, its name the file's."""
    found = target.load(name)
    assert found.name == name
    assert len(found.description.split()) > 2
    assert set(found.engines) <= set(catalog.names("engines"))
    assert len(set(found.engines)) == len(found.engines) > 0
    assert not any(catalog_engine in ("reference",) for catalog_engine in found.engines)


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_rates_have_sources_and_plausible_units(name: str) -> None:
    """A peak is operations or bytes a second, of a size that devices have; memory is in bytes."""
    found = target.load(name)
    assert not found.peaks or found.sources
    for rate, value in found.peaks.items():
        least, most = PEAK[rate.removesuffix("_per_s").rpartition("_")[2]]
        assert least < value < most, rate
    assert found.memory_bytes is None or 1 << 27 < found.memory_bytes < 1 << 42


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
    assert {"fp32", "int8_static"} <= set(found.recipes)
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


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_a_gpus_limits_are_its_capabilitys(name: str) -> None:
    """Warps, blocks, shared KiB of a multiprocessor and KiB reserved of a block, as CUDA's guide has
    them; 64 K registers on all; a target that is no GPU has none of it."""
    found = target.load(name)
    if found.compute_capability is None:
        assert not found.sm
        assert found.ptx_version is None
        return
    warps, blocks, shared, reserved = LIMITS[found.compute_capability]
    assert dict(found.sm) == {
        "warps": warps,
        "blocks": blocks,
        "registers": 64 * 1024,
        "shared_bytes": shared * 1024,
        "reserved_shared_bytes": reserved * 1024,
    }


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_a_gpus_ptx_version_knows_the_gpu(name: str) -> None:
    """The assembler takes an empty kernel of that version for that capability."""
    found = target.load(name)
    if found.compute_capability is None or found.ptx_version is None:
        return  # no GPU, so nothing is compiled for it
    arch = found.compute_capability.replace(".", "")
    text = f".version {found.ptx_version}\n.target sm_{arch}\n.address_size 64\n"
    text += ".visible .entry nothing()\n{ ret; }\n"
    empty = Ptx("nothing", text, found.compute_capability, found.ptx_version, ())
    assert cubin.assemble(empty)[0].startswith(b"\x7fELF")


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_a_misspelt_key_is_refused_with_the_nearest_name(name: str, tmp_path: Path) -> None:
    """Each profile with one letter of one key lost."""
    text = (catalog.ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("engines =", "engine =", 1))
    with pytest.raises(UsageError, match=r"unknown key 'engine'. Did you mean 'engines'\?"):
        target.load(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("onnxruntime_cpu", "onnxruntime"), "Did you mean 'onnxruntime_cpu'"),
        (GOOD.replace("local = true\n", ""), "local must be given"),
        (GOOD.replace('"a box"', '""'), "description must be a text, not ''"),
        (GOOD.replace('["onnxruntime_cpu"]', "[]"), "one at least"),
        (GOOD.replace('["onnxruntime_cpu"]', '"onnxruntime_cpu"'), "engines must be a list"),
        (GOOD.replace("true", '"yes"'), "local must be true or false, not 'yes'"),
        (GOOD + "threads = 0", "threads must be a whole number above 0, not 0"),
        (GOOD + "threads = true", "threads must be a whole number"),
        (GOOD + "threads = 1.5", "threads must be a whole number"),
        (GOOD + 'memory_bytes = "8 GB"', "memory_bytes must be a whole number"),
        (GOOD + "isa = [1]", "isa must be a list of texts"),
        (GOOD + "sources = [1]", "sources must be a list of texts"),
        (GOOD + "peaks = 5", "peaks must be a table"),
        (GOOD + "[peaks]\nint8_ops_per_s = 1e12", "peaks without sources"),
        (GOOD + 'sources = ["s"]\n[peaks]\nint8_tops = 1', r"each named \*_per_s"),
        (GOOD + 'sources = ["s"]\n[peaks]\nint8_ops_per_s = nan', "rates above 0"),
        (GOOD + 'sources = ["s"]\n[peaks]\nint8_ops_per_s = "1e12"', "rates above 0"),
        (GPU.replace('"8.6"', "8.6"), r'compute_capability must be a text such as "9.0", not 8.6'),
        (GPU.replace('"8.6"', '"sm_86"'), "compute_capability must be a text such as"),
        (GPU.replace('"8.6"', '"86"'), "compute_capability must be a text such as"),
        (GPU.replace('"9.0"', '"9"'), r'ptx_version must be a text such as "8.5", not \'9\''),
        (GPU.replace(SM, ""), r"compute_capability and \[sm\], its limits, go together"),
        (GOOD + SM, r"compute_capability and \[sm\], its limits, go together"),
        (GOOD + 'ptx_version = "9.0"', "give its compute_capability"),
        (GPU.replace("warps = 48\n", ""), "sm must be a table of whole numbers above 0: blocks, r"),
        (GPU.replace("warps", "threads"), "sm must be a table of whole numbers above 0"),
        (GPU.replace("warps = 48", "warps = 0"), "sm must be a table of whole numbers above 0"),
        (GPU.replace("= 65536", "= 65536.0"), "sm must be a table of whole numbers above 0"),
        (GPU.replace("= 1024\n", "= false\n"), "sm must be a table of whole numbers above 0"),
        (GPU.replace("= 16", "= true"), "sm must be a table of whole numbers above 0"),
        ("description = ", "not a readable target"),
        ("\x00", "not a readable target"),
    ],
)
def test_a_wrong_target_is_refused_in_our_words(tmp_path: Path, text: str, said: str) -> None:
    """The file, the key, the value that was seen and what is allowed."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        target.load(str(path))


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_nothing_is_timed_for_another_machine(name: str, tmp_path: Path) -> None:
    """A target that is not this machine ends optimize at once, with exit code 3 and what to do."""
    if not here.elsewhere(target.load(name)):
        return  # it is this machine
    with pytest.raises(Unmeasured, match=f"'{name}' is another machine") as refused:
        pipeline.optimize("absent.py", target=name, out=tmp_path / "out", work=tmp_path / "work")
    assert refused.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_a_target_of_the_users_own_is_taken(tmp_path: Path) -> None:
    """Every key that the value has can be given."""
    path = tmp_path / "mine.toml"
    more = 'threads = 2\nmemory_bytes = 8000000000\nisa = ["avx2"]\nsources = ["its data sheet"]\n'
    path.write_text(GOOD + more + "[peaks]\nint8_ops_per_s = 1e12\n")
    found = target.load(str(path))
    assert (found.name, found.threads, found.peaks) == ("mine", 2, {"int8_ops_per_s": 1e12})
    assert set(target.KINDS) == {field.name for field in dataclasses.fields(Target)}


def test_a_gpu_of_the_users_own_is_taken(tmp_path: Path) -> None:
    """Its capability, the PTX that its driver loads, and the limits of a multiprocessor."""
    path = tmp_path / "mine.toml"
    path.write_text(GPU.replace("= 1024\n", "= 0\n"))
    found = target.load(str(path))
    assert (found.compute_capability, found.ptx_version) == ("8.6", "9.0")
    assert (found.sm["warps"], found.sm["reserved_shared_bytes"]) == (48, 0)


def test_an_absent_file_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    """A path that is not there; a name that no profile has."""
    with pytest.raises(UsageError, match=r"absent\.toml is not a readable target"):
        target.load(str(tmp_path / "absent.toml"))
    with pytest.raises(UsageError, match="Did you mean 'cpu-local'"):
        target.load("cpu-lokal")
