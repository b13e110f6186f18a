"""PTX is what was asked for, or it is refused: its target, its parameters, nothing left undefined."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from accel import catalog
from accel.cuda import cubin, ptx
from accel.cuda.ptx import Ptx
from accel.errors import CandidateBroken
from accel.protocols import Signature

NAME = "residual_layernorm"
BAKED = {"epsilon": 1e-12}
PRINTS = """.extern .func  (.param .b32 func_retval0) vprintf
(
	.param .b64 vprintf_param_0
)
;
.extern .global .align 8 .b8 table[16];
.extern .shared .align 16 .b8 room[];
.visible .entry"""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a fake toolchain in the place of Numba's: it answers with this text, whatever is asked."""
    return lambda text: monkeypatch.setattr(ptx, "_compile", lambda *_: text)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put a fake kernel into the catalog: float16 in, int32 n, float16 out, and this source."""

    def place(source: Any) -> None:
        signature = Signature((("x", "float16"),), ("n",), (("y", "float16"),))
        fake = SimpleNamespace(
            DTYPES=("float16",), signature=lambda *_: signature, source=lambda *_: source
        )
        monkeypatch.setattr(catalog, "load", lambda *_: fake)

    return place


def test_it_says_what_it_is(made: Ptx) -> None:
    """The entry, target, version and parameters stand in the text; nothing of this process does."""
    assert made.entry == "accel_residual_layernorm_float32"
    assert f".visible .entry {made.entry}(" in made.text
    assert ".target sm_87\n" in made.text
    assert f".version {made.version}\n" in made.text
    assert made.parameters == ("u64",) * 4 + ("u32",) * 3 + ("u64",) * 2
    assert "NumbaEnv" not in made.text


def test_a_clamped_target_is_refused(made: Ptx, answers: Callable[[str], None]) -> None:
    """Toolchains older than a GPU answer with the newest that they know, and say nothing."""
    answers(made.text.replace(".target sm_87", ".target sm_90"))
    with pytest.raises(
        CandidateBroken, match="asked for sm_100, the toolchain gave sm_90: it is old"
    ):
        ptx.compile(NAME, "float32", BAKED, "10.0")


def test_a_text_with_no_target_is_refused(made: Ptx, answers: Callable[[str], None]) -> None:
    """An absent line is not taken for the right one."""
    answers(made.text.replace(".target sm_87", ""))
    with pytest.raises(CandidateBroken, match="the toolchain gave absent"):
        ptx.compile(NAME, "float32", BAKED, "8.7")


def test_what_nothing_defines_is_named(made: Ptx, answers: Callable[[str], None]) -> None:
    """Functions and tables; shared memory whose size comes with the launch is no such thing."""
    answers(made.text.replace(".visible .entry", PRINTS))
    with pytest.raises(CandidateBroken, match=r"calls what nothing defines: vprintf, table$"):
        ptx.compile(NAME, "float32", BAKED, "8.7")


def test_arithmetic_that_needs_a_linker_is_refused(member: Callable[[Any], None]) -> None:
    """Numba's float16 multiplication is a call to a function in another file: the real compiler."""

    def multiply(x, n, y):  # type: ignore[no-untyped-def]
        y[0] = x[0] * x[0]

    member(multiply)
    with pytest.raises(CandidateBroken, match=r"calls what nothing defines: _ZmlRK6__half\w+$"):
        ptx.compile("multiply", "float16", {}, "8.7")


@pytest.mark.parametrize(
    ("was", "becomes"), [(".param .u32", ".param .u64"), (".param .u64", ".param .f32")]
)
def test_other_parameters_than_the_signatures_are_refused(
    made: Ptx, answers: Callable[[str], None], was: str, becomes: str
) -> None:
    """TensorRT passes pointers, int32 scalars and pointers: a kernel that takes others would read
    what is not there."""
    answers(made.text.replace(was, becomes, 1))
    with pytest.raises(CandidateBroken, match=r"takes \('.*, its signature says \('u64', 'u64'"):
        ptx.compile(NAME, "float32", BAKED, "8.7")


def test_two_entries_are_refused(made: Ptx, answers: Callable[[str], None]) -> None:
    """Which one would be launched?"""
    answers(made.text + "\n.visible .entry second(\n)\n{ ret; }\n")
    with pytest.raises(CandidateBroken, match=r"compiled to 2 entries; one was expected"):
        ptx.compile(NAME, "float32", BAKED, "8.7")


def test_source_that_does_not_compile_is_refused_in_our_words(
    member: Callable[[Any], None],
) -> None:
    """The kernel, the capability and the first of Numba's lines; no error of Numba's own."""

    def wrong(x, n, y):  # type: ignore[no-untyped-def]
        y[0] = x[0] + "text"

    member(wrong)
    with pytest.raises(
        CandidateBroken,
        match=r"accel_wrong_float16 does not compile for 8\.7: No implementation of .*add",
    ):
        ptx.compile("wrong", "float16", {}, "8.7")


def test_an_older_version_assembles_to_the_same_costs(made: Ptx) -> None:
    """JetPack 6 loads PTX 8.5: only the mark changes, and ptxas takes the text as that."""
    older = ptx.lower(made, "8.5")
    assert older.version == "8.5"
    assert older.text == made.text.replace(f".version {made.version}\n", ".version 8.5\n")
    assert cubin.assemble(older)[1] == cubin.assemble(made)[1]


def test_a_newer_version_than_made_changes_nothing(made: Ptx) -> None:
    """Versions are compared as numbers: 10.1 is newer than 9.0."""
    assert ptx.lower(made, "10.1") is made
    assert ptx.lower(made, made.version) is made


def test_a_version_older_than_the_gpu_is_refused_by_the_assembler(made: Ptx) -> None:
    """PTX 7.0 does not know sm_87: the mark alone proves nothing."""
    with pytest.raises(
        CandidateBroken, match=r"ptxas refuses accel_residual_layernorm_float32: .*sm_87"
    ):
        cubin.assemble(ptx.lower(made, "7.0"))


NUMPY_2_5 = """
import numpy
if hasattr(numpy, "row_stack"):
    del numpy.row_stack
from accel.cuda import ptx
print(ptx.compile("residual_layernorm", "float32", {"epsilon": 1e-12}, "9.0").entry)
assert not hasattr(numpy, "row_stack")
"""


def test_it_compiles_beside_numpy_2_5() -> None:
    """numba-cuda 0.30 still asks for a name that was dropped there; it is lent, and taken back."""
    words = [sys.executable, "-c", NUMPY_2_5]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "accel_residual_layernorm_float32\n", done.stderr
