"""What a budget can count, by name."""

from __future__ import annotations

COUNTED = ("parameters", "bytes", "flops")


TABULATED = ("file", "latency")


MEASURES = (*COUNTED, *TABULATED)
