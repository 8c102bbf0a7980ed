"""What the command's exit code says to a program that has called it."""

from __future__ import annotations

DONE = 0
BAD_INPUT = 1  # told in an error; nothing was trained, nothing written
# 2 is a wrong command line, by custom
SHORT = 3  # trained and saved, but not as small as it was asked for
HELD_BACK = 4  # the same, because a guard or a search wanted it so
RESCUED = 5  # broken off or not saved; the model as it was then is beside the output
DIVERGED = 6  # trained and saved, but weights or answers are NaN or infinite
INTERRUPTED = 130  # broken off before there was anything to keep, by custom of shells

CODES = """\
Exit codes: 0 done; 1 bad input, told before training; 2 a wrong command line; 3 saved, but the \
budget was not reached; 4 the same, held back by a guard or a search; 5 broken off, or not saved: \
the model was rescued as a .keras file, whose name is told; 6 saved, but the training diverged: \
weights or answers are NaN or infinite."""
