"""The small graphs lie beside the tests that draw them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for small_graphs.py
