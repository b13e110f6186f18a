"""A family is a folder, a member is a file, its name is the file's stem: nothing to register."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from pathlib import Path
from typing import Any

from accel.errors import MissingExtra, UsageError

ROOT = Path(__file__).parent
SUFFIX = {"profiles": ".toml"}
LISTED = {"profiles": "targets"}  # as `accel list` calls it
EXTRAS = {  # import name -> extra; a new dependency is one line here and one in pyproject.toml
    "torch": "torch",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "nncf": "openvino",
    "tensorrt": "tensorrt",
    "numba": "kernels",
    "llvmlite": "kernels",
    "numba_cuda": "kernels",
    "cuda": "kernels",  # cuda-core
}
NVIDIA_WHEELS = "https://pypi.jetson-ai-lab.io/"  # jp6/cu126: JetPack 6; sbsa/cu130: 7
AARCH64 = {  # extra -> what installs it where PyPI has no wheels
    "cuda": f"pip install onnxruntime-gpu --index-url {NVIDIA_WHEELS}jp6/cu126",
    "tensorrt": "sudo apt-get install python3-libnvinfer",  # JetPack's, of the system's own Python
}
OWN = {"onnxruntime_cuda": "cuda"}  # member -> extra, where another wheel has the same import name


def names(family: str) -> tuple[str, ...]:
    """Members of a family, sorted; nothing is imported."""
    suffix = SUFFIX.get(family, ".py")
    folder = ROOT / family
    return tuple(sorted(p.stem for p in folder.glob(f"*{suffix}") if not p.stem.startswith("_")))


def require(family: str, name: str) -> None:
    """Raise UsageError, with the nearest name, unless `name` is a member."""
    allowed = names(family)
    if name in allowed:
        return
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(
        f"No {family.removesuffix('s')} named {name!r}.{hint} Known: {', '.join(allowed)}. "
        f"Run: accel list {LISTED.get(family, family)}"
    )


def load(family: str, name: str) -> Any:
    """The member's module, imported on first use.

    Raises UsageError for an unknown name, MissingExtra for a library that is not installed or
    does not load."""
    require(family, name)
    try:
        return importlib.import_module(f"accel.{family}.{name}")
    except ModuleNotFoundError as error:
        raise missing(f"{family.removesuffix('s')} {name!r}", error, OWN.get(name, "")) from None
    except (ImportError, OSError) as error:  # a half-finished install, or a system library
        raise MissingExtra(
            f"{family.removesuffix('s')} {name!r}: one of its libraries is installed for "
            f"{sys.executable} and does not load: {error}. Reinstall it, or run: accel doctor"
        ) from error


def constant(family: str, name: str, word: str) -> Any:
    """What a member's file says of itself in a line `WORD = ...`; None where it says nothing. The file is
    read, not imported: its library may be absent.

    Raises UsageError for an unknown name."""
    require(family, name)
    text = (ROOT / family / f"{name}.py").read_text(encoding="utf-8")
    given = [line for line in ast.parse(text).body if isinstance(line, ast.Assign)]
    told = (one.value for one in given if word in [ast.unparse(t) for t in one.targets])
    return next(map(ast.literal_eval, told), None)


def missing(what: str, error: ModuleNotFoundError, extra: str = "") -> MissingExtra:
    """The error for an absent library, with the line that installs it: `extra`, or the library's."""
    import platform

    library = (error.name or str(error)).partition(".")[0]
    extra = extra or EXTRAS.get(library, "")
    line = "pip install " + (f"'accel-inference[{extra}]'" if extra else library)
    where = sys.executable
    if platform.machine() == "aarch64" and extra in AARCH64:
        line, where = AARCH64[extra], f"{where}, and PyPI has no wheel of it for aarch64"
    return MissingExtra(f"{what} needs {library}, which is not installed for {where}. Run: {line}")
