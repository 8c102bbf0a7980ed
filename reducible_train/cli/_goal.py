"""What `tune` is asked to make best, by its own options, known before TensorFlow is loaded."""

from __future__ import annotations

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality

DROP = 0.005  # where neither of the two is given


def goal(
    monitor: str, max_drop: float | None, max_size: float | None
) -> SizeAtQuality | QualityAtSize:
    """The objective of a search.

    Args:
        monitor: The metric that tells the quality.
        max_drop: What it may be worse than the model as it is.
        max_size: The largest fraction of the parameters.

    Raises:
        ArgumentError: Both are given, or one cannot be.
    """
    if max_size is not None and max_drop is not None:
        raise ArgumentError(
            "Only one of --max-drop and --max-size can bound a search: the smallest model that is "
            f"good enough, or the best that is small enough. Received: --max-drop {max_drop:g} "
            f"--max-size {max_size:g}. Leave one out; the table at the end shows both for each "
            "trial."
        )
    flag, option = ("--max-drop", "max_drop") if max_size is None else ("--max-size", "limit")
    try:
        if max_size is not None:
            return QualityAtSize(monitor, limit=max_size)
        return SizeAtQuality(monitor, max_drop=DROP if max_drop is None else max_drop)
    except (ArgumentError, ArgumentTypeError) as error:
        words = str(error)
        for name, said in (("monitor", "--monitor"), (option, flag)):
            words = words.replace(f"`{name}`", said).replace(f"{name}=", f"{said} ")
        for owner in (" of SizeAtQuality", " of QualityAtSize"):
            words = words.replace(owner, "")
        raise type(error)(words.replace(option, flag)) from error
