"""Law of the counts of layers: no argument makes Keras count without a bound while it builds."""

from __future__ import annotations

import inspect
import re
import sys

import keras

from reducible_train.saving.allow_list import COUNTS, is_block

# A loop over what an argument says, and a list made as long as one says.
_COUNTED = re.compile(
    r"""\brange\((?:[01],\ )?(?:self\.)?_?(\w+)(?:\ \+\ 1)?\)
    |(?<!\w)\[[^\[\]]*\]\ \*\ (?:self\.)?_?(\w+)""",
    re.VERBOSE,
)


def _arguments_counted(kind):
    arguments = inspect.signature(kind.__init__).parameters
    for base in kind.__mro__:
        if base.__module__.startswith("keras.src.layers."):
            source = inspect.getsource(sys.modules[base.__module__])
            yield from arguments.keys() & {n for pair in _COUNTED.findall(source) for n in pair}


def test_every_argument_that_keras_counts_by_has_a_bound():
    kinds = [kind for name, kind in vars(keras.layers).items() if is_block("keras.layers", name)]
    found = {name for kind in kinds for name in _arguments_counted(kind)}
    assert found <= COUNTS.keys()
    assert {"chain_depth", "ngrams", "num_oov_indices", "power_iterations"} <= found, "it looks"
