"""The server of the tab: files of the page, and JSON of the logs.

Whatever is asked for, the status is 200 and the answer is JSON: a browser reports any other as an
error of the page. What went wrong stands in `problem`, in words.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from reducible_train.tensorboard.plugin.logs import Logs
from reducible_train.tensorboard.plugin.runs import run_answer, runs_answer, spectra_answer
from reducible_train.tensorboard.tags import PLUGIN_NAME

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_LONGEST = 4096  # letters of a name that is looked for
_log = logging.getLogger("tensorboard")

Answer = Callable[[Logs, Mapping[str, str]], Mapping[str, Any]]
Application = Callable[..., Any]


class ReducibleTab(base_plugin.TBPlugin):
    """The plugin as TensorBoard knows it."""

    plugin_name = PLUGIN_NAME

    def __init__(self, context: Any):
        self._provider = context.data_provider

    def get_plugin_apps(self) -> dict[str, Application]:
        """Routes below `data/plugin/reducible`."""
        files = {
            f"/static/{file.name}": _file(file)
            for file in sorted(STATIC.glob("*"))
            if file.suffix in _TYPES
        }
        answers = {
            "/runs": lambda logs, asked: runs_answer(logs),
            "/run": lambda logs, asked: run_answer(logs, asked.get("run", "")),
            "/spectra": lambda logs, asked: spectra_answer(
                logs, asked.get("run", ""), asked.get("layer", "")
            ),
        }
        return files | {route: self._json(answer) for route, answer in answers.items()}

    def is_active(self) -> bool:
        """False: TensorBoard lights the tab where there are data of this plugin."""
        return False

    def frontend_metadata(self) -> Any:
        """The page."""
        return base_plugin.FrontendMetadata(
            es_module_path="/static/index.js", tab_name="Reducible", disable_reload=True
        )

    def _json(self, answer: Answer) -> Application:
        @wrappers.Request.application
        def respond(request: Any) -> Any:
            context = plugin_util.context(request.environ)
            experiment = plugin_util.experiment_id(request.environ)
            try:
                asked = {name: text[:_LONGEST] for name, text in request.args.items()}
                found = answer(Logs(self._provider, context, experiment), asked)
            except Exception as error:
                _log.warning("The tab 'Reducible' cannot read the logs", exc_info=True)
                found = {"problem": f"The logs cannot be read ({type(error).__name__}: {error})."}
            text = json.dumps(found, separators=(",", ":"), allow_nan=False)
            return http_util.Respond(request, text, "application/json")

        return respond


def _file(file: Path) -> Application:
    @wrappers.Request.application
    def respond(request: Any) -> Any:
        try:
            content = file.read_bytes()
        except OSError:  # uninstalled, or updated, while TensorBoard runs
            return http_util.Respond(request, "not found", "text/plain", code=404)
        return http_util.Respond(request, content, _TYPES[file.suffix])

    return respond
