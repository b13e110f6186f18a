"""An engine that crashes, hangs, hoards, scrawls or answers wrongly costs one candidate, and says where to look.

The engine is a fake (faulty.py) in a copy of the package; the processes and their ends are real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent
LIMIT_S = 4.0
LIMIT_MB = 600
FAULTS = {  # what is asked of the engine -> status of the candidate, its reason, whether a log is named
    "build crash": ("failed", r"killed by SIGSEGV", True),
    "build hang": ("failed", r"did not end within 4 s and was killed", True),
    "build leave": ("failed", r"exit code 3", True),
    "build hoard": ("failed", r"used \d+ MB; at most 600 MB were allowed", True),
    "build raise": ("failed", r"failed: RuntimeError: last line", True),
    "build another": ("failed", r"gave no Plan: Plan: an object was expected, found int", True),
    "load crash": ("failed", r"faulty: the worker died during load \(killed by SIGSEGV\)", True),
    "load hang": ("failed", r"faulty: load did not end within 4 s; the worker was killed", True),
    "load hoard": ("failed", r"faulty: load failed: MemoryError", True),
    "load scrawl": ("failed", r"faulty: load was answered with b'\\xff\\x00 garbage'", True),
    "run crash": ("failed", r"faulty: the worker died during run \(killed by SIGSEGV\)", True),
    "run leave": ("failed", r"faulty: the worker died during run \(exit code 3\)", True),
    "run shapes": ("refused", r"feed 0: y is \(1, 1\), expected \(1, 4\)", False),
    "run names": ("refused", r"feed 0: no output y; there are other_y", False),
    "run nan": ("refused", r"NaN", False),
    "none": ("built", "", False),
}
SCRIPT = f"""
import json, sys
from pathlib import Path
from accel import artefacts, catalog, graph, testing, trials
from accel import job as jobs
from accel import target as targets
from accel.measure import limits, outputs
from accel.values import Candidate
artefacts.BUILD_LIMIT_S = {LIMIT_S}
outputs.outputs.__kwdefaults__["timeout_s"] = {LIMIT_S}
limits.machine_bytes = lambda: {LIMIT_MB} * 1_000_000
model = testing.mlp(Path("m.onnx"))
job = jobs.prepare("m.onnx", targets.load("cpu-local"), None, Path("work"))
root = artefacts.export(job, "onnx").value
yardstick = artefacts.yardstick(job, root)
engine = catalog.load("engines", "faulty")
found = {{}}
for fault in json.loads(sys.argv[1]):
    options = {{"threads": 1, "fault": fault}}
    asked = Candidate(fault, "onnx", "fp32", "faulty", options=options)
    row = trials.trial(job, {{"onnx": root}}, asked, engine, yardstick)
    found[fault] = [row.status, row.reason]
print(json.dumps(found))
"""

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def rows(copy: Any) -> dict[str, Any]:
    """What became of a candidate with each fault."""
    shutil.copy(HERE / "faulty.py", copy.folder / "accel" / "engines" / "faulty.py")
    found: dict[str, Any] = json.loads(copy.run("-c", SCRIPT, json.dumps(list(FAULTS))))
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_one_candidate(rows: dict[str, Any], fault: str) -> None:
    """The reason says what happened and to whom; the log that it names is there, with what was printed."""
    status, said, logged = FAULTS[fault]
    assert rows[fault][0] == status, rows[fault]
    assert re.search(said, rows[fault][1]), rows[fault]
    if not logged:
        return
    [log] = re.findall(r"less (\S+\.log)", rows[fault][1])
    where, _, how = fault.partition(" ")
    if how != "another":
        assert f"about to {how} in {where}" in Path(log).read_text(errors="replace")


def test_nobody_is_left(rows: dict[str, Any], copy: Any) -> None:
    """Neither a child nor its guardian runs on."""
    alive = []
    for process in psutil.process_iter():
        try:
            if str(copy.folder) in process.environ().get("PYTHONPATH", ""):
                alive.append(process.cmdline())
        except psutil.Error:
            continue
    assert alive == []


def test_a_command_that_fails_leaves_the_log_that_it_names(copy: Any, rows: Any) -> None:
    """What `accel evaluate` printed in its temporary folder outlives it, and nothing else does."""
    (copy.folder / "w.py").write_text(
        "import numpy as np\ndef model(): return 'm.onnx'\nX = {'x': np.ones((1, 8), 'f4')}\n"
        "def inputs(): return X\ndef samples(split): return [(X, 1)]\n"
        "def row(o, l): return 1.0\ndef metric(r): return r.mean()\n"
    )
    faulty = copy.folder / "accel" / "engines" / "faulty.py"
    text = faulty.read_text().replace('"fault": ""', '"fault": "run crash"')
    faulty.write_text(text)
    words = ["-m", "accel", "evaluate", "m.onnx", "--workload", "w.py", "--engine", "faulty"]
    places = {"PYTHONPATH": str(copy.folder), "TMPDIR": str(copy.folder / "tmp")}
    (copy.folder / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=copy.folder,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6, done.stderr
    [log] = re.findall(r"less (\S+\.log)", done.stderr)
    assert "about to crash in run" in Path(log).read_text(errors="replace")
    left = [p for p in (copy.folder / "tmp").glob("accel-*/**/*") if p.is_file()]
    assert {p.suffix for p in left} == {".log"}
