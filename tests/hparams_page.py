"""The HParams dashboard, asked as its page asks it."""

from __future__ import annotations

from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context


def asked_of_the_server(logs) -> dict[str, Any]:
    """What the server tells the page of a folder of logs: its columns and its rows."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(logs))
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(logs))))
    request = RequestContext()
    told = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, told, [])
    statuses = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING]
    columns = [api_pb2.ColParams(metric=each.name) for each in experiment.metric_infos]
    wanted = api_pb2.ListSessionGroupsRequest(
        slice_size=99, allowed_statuses=statuses, col_params=columns, include_metrics=True
    )
    answer = list_session_groups.Handler(request, context, "", wanted).run()
    return {"experiment": experiment, "groups": answer.session_groups}
