"""A search of keras-tuner is alone in its folder from its first look at it until it ends.

A tuner reads its folder when it is made, also only to look at what is there, whichever process has
searched in it. So what a search goes on from is read again when it begins, once nobody else can
write it; and nobody removes, by `overwrite=True`, what another process is searching in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from keras_tuner import Oracle
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.src.distribute.oracle_client import OracleClient

from reducible_train.errors import ArgumentError
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.evaluation import COMPACT
from reducible_train.tuner.folder_lock import CHIEF, SEARCH, holding, searching
from reducible_train.tuner.kept_files import ORACLE, TRIAL, TUNER
from reducible_train.tuner.keras_tuner_side import SETTINGS, goal_of, settings_of, unwrapped
from reducible_train.tuner.project import FILE, Project, another_search

_OVERWRITE = " overwrite=True would remove its trials: leave it out, also of workers."


def search_alone() -> None:
    """Have each tuner over a hypermodel of ours hold its folder while it searches.

    It changes two methods of keras-tuner in this process, once: how a tuner is made, and its
    `search`. Tuners over other hypermodels do what they did.
    """
    tuner: Any = BaseTuner
    if not hasattr(tuner.search, "shared"):
        tuner.search = _alone(tuner.search)
        tuner.__init__ = _keeping(tuner.__init__)


def _alone(search: Any) -> Any:
    @functools.wraps(search)
    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = _ours(self.hypermodel)
        if ours is None:
            return search(self, *args, **kwargs)
        project = Path(self.project_dir)
        with ExitStack() as held:
            with _told():
                held.enter_context(searching(project))
            held.enter_context(ours.searching(self, args, kwargs))
            _take_up(self)
            _check_settings(self, project)
            return search(self, *args, **kwargs)

    alone.shared = search  # type: ignore[attr-defined]
    return alone


def _take_up(tuner: Any) -> None:
    """Read what the folder of a tuner holds; a worker asks its chief."""
    if not isinstance(tuner.oracle, OracleClient) and _is_begun(Path(tuner.project_dir)):
        tuner.oracle.reload()


def _check_settings(tuner: Any, project: Path) -> None:
    """Refuse a folder whose engine has other settings; an older version did not write them."""
    asked, found = getattr(tuner, SETTINGS, {}), settings_of(tuner.oracle)
    if not isinstance(tuner.oracle, OracleClient) and found != asked:
        raise another_search(project, "oracle", found, asked)


def _is_begun(project: Path) -> bool:
    """Whether a folder holds what is gone on with: more than a search that was refused."""
    if not (project / FILE).is_file():
        return any(project.glob(f"trial_*/{COMPACT}"))
    return (project / ORACLE).is_file() or any(project.glob(f"trial_*/{TRIAL}"))


def _keeping(begin: Any) -> Any:
    told = inspect.signature(begin)

    @functools.wraps(begin)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        asked = told.bind(self, *args, **kwargs).arguments
        if _ours(asked.get("hypermodel")) is None:
            begin(self, *args, **kwargs)
            return
        if asked.get("overwrite"):
            _check_unused(
                Path(asked.get("directory") or ".", asked.get("project_name") or "untitled_project")
            )
        if isinstance(asked.get("oracle"), Oracle):
            setattr(asked["oracle"], TUNER, type(self).__name__)
            setattr(self, SETTINGS, settings_of(asked["oracle"]))
        begin(self, *args, **kwargs)
        if isinstance(self.oracle, OracleClient):
            return
        with _told():
            goal = goal_of(self.oracle.objective)
            Project(Path(self.project_dir), {"goal": goal}).check()
        if not self.oracle.trials:
            _take_up(self)  # keras-tuner does if a process of the same name has searched there

    return __init__


def _check_unused(project: Path) -> None:
    """Refuse to remove a folder in which another process searches, whatever part it has in it."""
    for name in (SEARCH, CHIEF):
        if (project / name).exists():
            with _told(_OVERWRITE), holding(project, name):
                pass


@contextmanager
def _told(more: str = "") -> Iterator[None]:
    """What is refused ends the search, with keras-tuner's kind of error."""
    try:
        yield
    except ArgumentError as error:
        raise SearchError(f"{error}{more}") from error


def _ours(hypermodel: Any) -> Any:
    """A `RankHyperModel`, also where keras-tuner has wrapped it; `None` for any other."""
    found = unwrapped(hypermodel)
    return found if hasattr(found, "check_folder") else None
