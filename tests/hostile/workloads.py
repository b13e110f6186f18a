"""Workload files: code that is wrong, that never ends, prints without measure, or moves elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.case import Case, Made, relu

OPTIMIZE = ("optimize", "{}", "--quiet")
EXPORT = ("export", "{}", "--out", "made.onnx")
JSON = (*EXPORT, "--json")
BASE = """
import itertools, os, sys
import numpy as np
X = lambda n=2: {"x": np.ones((n, 4), "f4")}
def model(): return "m.onnx"
def inputs(): return X()
def row(outputs, label): return 1.0
def metric(rows): return rows.mean()
"""
LABELLED = "def samples(split): return [(X(2), 1)] * 3\n"


def _file(text: str | bytes, base: str = BASE) -> Made:
    """w.py beside a good graph."""
    content = text if isinstance(text, bytes) else (base + text).encode()

    def make(folder: Path) -> Path:
        (folder / "m.onnx").write_bytes(relu().SerializeToString())
        (folder / "w.py").write_bytes(content)
        return folder / "w.py"

    return make


def cases() -> Iterator[Case]:
    """Refused with the file and the line; what is only odd is lived with."""
    yield from _broken()
    yield from _wrong()
    yield from _endless()
    yield from _odd()


def _broken() -> Iterator[Case]:
    for name, text, said in (
        ("no model", "x = 1\n", "w.py defines no model()"),
        ("no model:empty", "", "w.py defines no model()"),
        ("model misspelt", "def modle(): pass\n", "Did you mean model()?"),
        ("model that is no function", "model = 3\n", "model must be a function, not int"),
        ("syntax error", "def model(:\n", "w.py:1: "),
        ("source with a zero byte", "x = 1\0\n", "w.py"),
        ("source that nests", "x = " + "(" * 5000, "w.py"),
        ("source that nests:signs", "x = " + "-" * 200_000 + "1", "w.py"),
        ("source that indents", "".join(f"{' ' * i}if 1:\n" for i in range(200)), "w.py"),
        ("import that is absent", "import nowhere\n", "w.py:1 in <module>: ModuleNotFoundError"),
        ("import that raises", "raise ValueError('no weights here')\n", "no weights here"),
        ("import that exits with 0", "raise SystemExit(0)\n", "SystemExit"),
        ("import that recurses", "def f(): f()\nf()\n", "RecursionError"),
        ("error that steers", "raise ValueError('\\x1b[2J\\x07')\n", "\\x1b[2J\\x07"),
        ("error of many lines", "raise ValueError('a\\nb\\nc')\n", "ValueError: a"),
        ("error of a megabyte", "raise ValueError('a' * 1_000_000)\n", "ValueError: aaa"),
        ("error that cannot be told", "class E(Exception):\n def __str__(self): raise self\nraise E\n", "w.py:3"),
    ):  # fmt: skip
        yield Case(name, _file(text, ""), says=(said,), command=OPTIMIZE)
    yield Case("source that is not UTF-8", _file(b"x = '\xff'\n"), says=("w.py",), command=OPTIMIZE)
    yield Case("source that is a binary", _file(bytes(range(256)) * 99), says=("w.py",), command=OPTIMIZE)  # fmt: skip


def _wrong() -> Iterator[Case]:
    for name, text, said in (
        ("inputs of another type", "def inputs(): return [1]", "inputs() must give a dict"),
        ("inputs of another type:objects", "def inputs(): return {'x': object()}", "'x' is object"),
        ("inputs of another type:ragged", "def inputs(): return {'x': [[1], [1, 2]]}", "'x' is not an array"),
        ("inputs that raise", "def inputs(): raise KeyError('x')", "w.py:9 in inputs: KeyError"),
        ("requests of another type", "def requests(): return 3", "requests() failed"),
        ("requests of another type:pairs", "def requests(): return [(1, 2)]", "item 0 is tuple"),
        ("requests without weight", "def requests(): return [('a', float('nan'), X())]", "weight of item 0 is nan"),
        ("requests that weigh true", "def requests(): return [('a', True, X())]", "weight of item 0 is True"),
        ("requests that are none", "def requests(): return []", "requests() yields nothing"),
        ("calibration of another type", "def calibration(): return [1]", "calibration() must give"),
        ("calibration with NaN", "def calibration(): yield {'x': np.full((2, 4), np.nan)}", "'x' holds 8 NaN"),
        ("calibration that is none", "def calibration(): return []", "calibration() yields nothing"),
        ("samples of another type", "def samples(split): return [1]", "item 0 is int"),
        ("samples that raise midway", "def samples(split):\n yield X(), 1\n 1 / 0", "ZeroDivisionError"),
        ("declaration of another kind", "higher_is_better = 'no'", "must be True or False"),
    ):  # fmt: skip
        yield Case(name, _file(text), says=(said,), command=OPTIMIZE)
    for name, text, said in (
        ("model of another type", "def model(): return 5", "not int"),
        ("model of a path that is absent", "def model(): return 'nowhere.onnx'", "is not a file"),
        ("model of a broken file", "def model(): return __file__", "w.py is Python"),
    ):
        yield Case(name, _file(text), says=(said,), command=EXPORT)


def _endless() -> Iterator[Case]:
    said = ("goes on. Is it endless?",)
    for name, text in (
        ("endless calibration", "def calibration(): return map(lambda _: X(), itertools.count())"),
        ("endless samples", "def samples(split): return ((X(), i) for i in itertools.count())"),
        ("endless requests", "def requests():\n while True: yield 'a', 1, X()"),
    ):
        yield Case(name, _file(text), says=said, command=OPTIMIZE)


def _odd() -> Iterator[Case]:
    for name, text in (
        ("prints megabytes", "print('a' * 3_000_000)\n"),
        (
            "prints megabytes:in model()",
            "def model():\n print('a' * 3_000_000)\n return 'm.onnx'\n",
        ),
    ):
        yield Case(name, _file(text), "accept", ('"schema": "accel/model"',), JSON)
    moved = "here = os.getcwd()\nos.chdir('/')\ndef model(): return os.path.join(here, 'm.onnx')\n"
    yield Case(
        "changes directory", _file(moved), "accept", ("made.onnx",), EXPORT, leaves=("made.onnx",)
    )
    many = "def calibration(): return [X()] * 5\n" + LABELLED
    yield Case("model of a good file", _file(many), "accept", ("made.onnx",), EXPORT)
