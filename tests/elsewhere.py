"""Another process, for what must be the same there: one for all tests of a worker.

Each new one would take seconds to load TensorFlow. The fixture `elsewhere` of `conftest.py` is one;
here is also what runs in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

# Read by TensorFlow and Keras when they load.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Elsewhere:
    """A process that runs programs one after the other, begun with the first.

    Args:
        errors: A file for what it writes to stderr.
    """

    def __init__(self, errors: Path):
        self.errors = errors
        self.process: subprocess.Popen[str] | None = None

    def run(self, program: str, *arguments: object) -> str:
        """What a program has printed.

        Args:
            program: Python; it finds the modules beside this one.
            *arguments: Its `sys.argv[1:]`.

        Raises:
            AssertionError: It has failed; the message tells how.
        """
        if self.process is None:
            self.process = self._begun()
        asked = {"program": program, "arguments": [str(each) for each in arguments]}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        answer = next((x for x in self.process.stdout if x.startswith(ANSWER)), None)
        assert answer is not None, self.errors.read_text()[-3000:]
        told = json.loads(answer.removeprefix(ANSWER))
        assert not told["fault"], told["fault"]
        return told["printed"]

    def _begun(self) -> subprocess.Popen[str]:
        with self.errors.open("w") as file:
            return subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def close(self) -> None:
        if self.process is not None:
            with self.process:  # closes its pipes and waits
                self.process.stdin.close()
            assert self.process.returncode == 0


# --- in the other process -----------------------------------------------------------------

ANSWER = "elsewhere: "


def main() -> None:
    import keras

    policy = keras.config.dtype_policy()
    for line in sys.stdin:
        asked, printed, fault = json.loads(line), io.StringIO(), ""
        sys.argv[1:] = asked["arguments"]
        keras.utils.clear_session(free_memory=False)
        try:
            with contextlib.redirect_stdout(printed):
                exec(asked["program"], {"__name__": "elsewhere"})
        except Exception:
            fault = traceback.format_exc()
        keras.config.set_dtype_policy(policy)
        told = {"printed": printed.getvalue(), "fault": fault}
        print(ANSWER + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
