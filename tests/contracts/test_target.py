"""What every target promises, and how a wrong one is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from accel import catalog, pipeline, target, testing
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
        (GOOD + f"peaks = {{bytes_per_s = {'9' * 400}}}", "peaks must be a table of rates"),
        (GOOD + f"power_modes_w = {{low = {'9' * 400}}}", "power_modes_w must be a table"),
        (GOOD + f"sources = {'[' * 5000}{']' * 5000}", "is not a readable target"),
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
        (GOOD + f"threads = {'9' * 400}", "threads must be a whole number above 0"),
        (GOOD.replace("true", f"0x{'f' * 5000}"), "local must be true or false, not 0xfff"),
        (GOOD + f"sm{'.a' * 3000} = 1", "sm must be a table of whole numbers above 0"),
        (GOOD + f"software = {{tensorrt = '{'9' * 5000}.1'}}", "software must be a table"),
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
    """A target that is not this machine ends pack at once, with exit code 3 and what to do."""
    if not here.elsewhere(target.load(name)):
        return  # it is this machine
    model = testing.mlp(tmp_path / "mlp.onnx").path
    with pytest.raises(Unmeasured, match=f"'{name}' is another machine") as refused:
        pipeline.pack("absent.py", model, target=name, out=tmp_path / "out", work=tmp_path / "work")
    assert refused.value.exit_code == 3
    assert list(tmp_path.iterdir()) == [model]


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
