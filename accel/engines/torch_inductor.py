"""PyTorch compiled by inductor: the workload's own module, exported with torch.export, then made
machine code ahead of time (AOTInductor) or at its first calls (torch.compile).

Members of kernels/ can be put into the program, as torch.library operators. Compiling needs a C++
compiler, for a GPU CUDA's headers too; an AOTInductor package runs without one. (torch.compiler, "AOTInductor")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from accel import arrays, catalog, workload
from accel.engines import _inductor_session as sessions
from accel.engines import _torch_ops, _torch_sites
from accel.engines import _torch_program as programs
from accel.engines._inductor_session import CACHE, PACKAGE, PROGRAM, Session
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.measure import child, machine
from accel.protocols import Probe
from accel.values import Feed, Model, Options, Plan, QuantStyle, Refusal, Request, Target

BASELINE = False
NATIVE = True  # a shared library, or a cache that inductor unpickles
AHEAD, FIRST_CALL = "aot_inductor", "torch_compile"
TF32_FROM = 8  # compute capability (CUDA C++ Programming Guide, "Compute Capability 8.x")
TRY_S = 300.0  # for a fresh process to load a package and run it once


def probe() -> Probe:
    """Usable where torch imports, a C++ compiler is on the PATH and, beside a GPU, CUDA's headers are."""
    if not programs.compiler():
        reason = "inductor compiles C++, and no compiler is on the PATH ($CXX, else g++)."
        return Probe(False, torch.__version__, reason, "apt-get install g++")
    there = torch.cuda.is_available()
    if there and (lacking := programs.headers_lacking()):
        reason = (
            "inductor compiles a package for a GPU with CUDA's headers; $CUDA_HOME/include "
            f"($CUDA_HOME, else /usr/local/cuda) lacks {', '.join(lacking)}."
        )
        return Probe(False, torch.__version__, reason, programs.headers_fix())
    gpu = torch.cuda.get_device_name() if there else "none"
    facts = {"compiler": programs.require_compiler(), "gpu": gpu}
    return Probe(True, torch.__version__, facts=facts)


def style(target: Target) -> QuantStyle:
    """Never quantized for."""
    return QuantStyle(True, False, True, False, True)


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """fp32 only."""
    others = (name for name in catalog.names("recipes") if name != "fp32")
    module = "the user's module is compiled as it is: a recipe's graph never reaches it"
    return {"fp32": None, **{name: Refusal(name, module) for name in others}}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """Ahead of time; on a GPU with CUDA graphs and without, with kernels, by torch.compile, and
    from Ampere on with TF32, which the name then says.

    On a CPU kernels would run their float64 references, and torch.compile only adds its guards to
    the same code: both can be asked for, and are not offered. An empty workload is filled in by
    whoever builds."""
    shared: Options = {"threads": target.threads or machine.cores(), "workload": ""}
    ahead = {**shared, "compiler": AHEAD}
    if _device(target) == programs.CPU:
        return (ahead,)
    graph, later = {**ahead, "cuda_graph": True}, {**shared, "compiler": FIRST_CALL}
    later = {**later, "cuda_graph": True}
    found = (graph, ahead, {**graph, "kernels": True}, later, {**later, "kernels": True})
    major = int((target.compute_capability or "0").partition(".")[0])
    return (*found, {**graph, "tf32": True}) if major >= TF32_FROM else found


def _device(target: Target) -> str:
    return programs.GPU if target.compute_capability else programs.CPU


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """A package, or a program with the cache of its first calls, that needs the workload no more.

    Options: threads; compiler, "aot_inductor" or "torch_compile"; kernels, True, False or names; on
    a GPU also cuda_graph and tf32.
    Raises UsageError without the workload's source in the options, MissingExtra without a compiler,
    CandidateBroken where torch.export or inductor refuses the module."""
    source = options.get("workload")
    if not source:
        raise UsageError("torch_inductor compiles a workload's own module, not a bare .onnx.")
    asked = _asked(target, options)
    kernels = _torch_sites.chosen(asked["kernels"])
    compiler, device = programs.require_compiler(), _device(target)
    programs.require_device(device)
    problem = workload.load(str(source), options.get("data"))
    module = programs.load_module(problem)
    threads = programs.set_threads(int(asked["threads"]))
    # after the user's code, which may have set it otherwise
    programs.set_precision(bool(asked.get("tf32")))
    with programs.scratch():
        program = programs.export(module, problem, model.inputs, requests, device)
        swapped = _torch_sites.swap(program, kernels)
    facts: Options = {
        "threads": threads,
        "precision": f"as in the module; TF32 {'on' if asked.get('tf32') else 'off'}",
        "device": device,
        "compiler": compiler,
        "kernels": dict(swapped.sites),
        "refused": [f"{r.what}: {r.reason}" for r in swapped.refused],
    }
    versions = {"torch": torch.__version__}
    if kernels:  # compiled when they are first started
        versions["numba-cuda"] = metadata.version("numba-cuda")
    plan = Plan("torch_inductor", model, out, asked, facts, versions, portable=False)
    _compile(program, plan, requests)
    return plan


def _asked(target: Target, options: Options) -> dict[str, Any]:
    """What stands in the plan: the workload's place does not, since nothing needs it any more."""
    given = {k: v for k, v in options.items() if k not in ("workload", "data")}
    threads = target.threads or machine.cores()
    fixed: Options = {"compiler": AHEAD, "kernels": False}
    graphics: Options = {"cuda_graph": False, "tf32": False}
    if _device(target) == programs.CPU:
        if any(given.get(name) for name in graphics):
            raise UsageError(f"cuda_graph and tf32 are a GPU's; target {target.name!r} has none.")
        graphics = {}
    asked = {"threads": threads, **fixed, **graphics, **given}
    if asked["compiler"] not in (AHEAD, FIRST_CALL):
        seen = asked["compiler"]
        raise UsageError(f"compiler must be {AHEAD!r} or {FIRST_CALL!r}, not {seen!r}.")
    return asked


def _compile(program: Any, plan: Plan, requests: Sequence[Request]) -> None:
    try:
        with programs.quiet(), programs.scratch():
            _COMPILE[plan.options["compiler"]](program, plan, requests)
    except AccelError:
        raise
    except Exception as error:  # inductor raises a dozen types of its own
        raise CandidateBroken(f"inductor failed: {programs.first(error)}") from None


def _ahead(program: Any, plan: Plan, requests: Sequence[Request]) -> None:
    with programs.shared_runtime(), programs.alone(str(plan.facts["device"])):
        torch._inductor.aoti_compile_and_package(program, package_path=str(plan.path / PACKAGE))
    first = requests[:1]  # one is enough to see that it runs
    if plan.facts["device"] == programs.CPU:
        tried(plan, [r.inputs for r in first])
        return
    with TemporaryDirectory(prefix="accel-") as folder:  # a crash there is a refusal here
        feeds, log = Path(folder, "feeds.npz"), plan.path.with_name(plan.path.name + ".try.log")
        arrays.save(feeds, [r.inputs for r in first])
        words = {"plan": plan, "feeds": feeds}
        child.call(f"{__name__}:try_file", words, bool, log=log, timeout_s=TRY_S)


def tried(plan: Plan, feeds: Sequence[Feed]) -> bool:
    """Load the plan and run it. Raises CandidateBroken where that fails."""
    session = load(plan)
    for feed in feeds:
        session(feed)
    session.close()
    return True


def try_file(plan: Plan, feeds: Path) -> bool:
    """`tried`, in a process that has compiled nothing."""
    return tried(plan, arrays.load(feeds) if feeds.is_file() else [])


def _at_first_call(program: Any, plan: Plan, requests: Sequence[Request]) -> None:
    """Sizes of 1 are compiled apart, so that each such kind among the requests is called once."""
    torch.export.save(program, plan.path / PROGRAM)
    (plan.path / CACHE).mkdir()
    kinds = {tuple(n == 1 for a in r.inputs.values() for n in a.shape): r for r in requests}
    with programs.environment(programs.caches(plan.path / CACHE)), ExitStack() as held:
        session = Session(sessions.compiled(program), plan, plan.facts["device"], held)
        for request in kinds.values():
            session(request.inputs)


_COMPILE = {AHEAD: _ahead, FIRST_CALL: _at_first_call}


def load(plan: Plan) -> Session:
    """Ready to run, the kernels' operators registered.

    Raises CandidateBroken where the plan does not load here, MissingExtra where its kernels need a
    library that is absent."""
    programs.require_device(str(plan.facts["device"]))
    for kernel in plan.facts["kernels"]:
        _torch_ops.operator(kernel)
    programs.set_threads(int(plan.options["threads"]))
    programs.set_precision(bool(plan.options.get("tf32")))
    with ExitStack() as stack:
        if plan.options["compiler"] == AHEAD:
            run = sessions.package(plan.path / PACKAGE, bool(plan.options.get("cuda_graph")))
        else:
            run = sessions.cached(plan.path, stack)
        return Session(run, plan, str(plan.facts["device"]), stack.pop_all())


__all__ = [
    "BASELINE",
    "Session",
    "build",
    "load",
    "options",
    "probe",
    "recipes",
    "style",
    "try_file",
]
