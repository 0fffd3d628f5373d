"""Has Prefect's recorder of task runs wait for the end of an outage of PostgreSQL, for the processes of Prefect's units.

The recorder puts an event that it could not write behind the others in its memory, and takes one from there for each that arrives, or every
5 s. So a restart of the database leaves a queue that stays as long: task runs show up late, by 5 s each once it is quiet, and are lost when
the process ends. Waiting instead keeps them in Redis, where they are safe. It is in force (:func:`install`) once
``prefect.server.services.task_run_recorder`` has been imported.
"""

from __future__ import annotations

import logging
from typing import Any

from selfhosted_prefect.patches.outages import Kinds
from selfhosted_prefect.patches.waiting import waiting

RETRY_SECONDS = 600.0  # seconds; then the recorder deals with it in its own way
THEN = "Task runs are recorded when it can."


def install(recorder: Any) -> None:  # noqa: ANN401  a module, whose names are looked up here
    """Patches the module ``prefect.server.services.task_run_recorder``.

    Raises AttributeError or ImportError if this Prefect is not made as those are that this was tried with; nothing was patched.
    """
    logger = logging.getLogger("prefect.server.services.task_run_recorder")
    recorder.record_bulk_task_run_events = waiting(recorder.record_bulk_task_run_events, Kinds(), logger, THEN, lambda: RETRY_SECONDS)
