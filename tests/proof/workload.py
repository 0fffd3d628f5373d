"""What the proof runs on the cluster: a flow with tasks, a flow for a schedule, tasks for a task worker."""

from __future__ import annotations

import os
import sys
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.task_worker import serve


@task  # type: ignore[untyped-decorator]
def square(number: int) -> int:
    """Return the square of a number, and log it."""
    get_run_logger().info("the square of %s is %s", number, number * number)
    return number * number


@flow  # type: ignore[untyped-decorator]
def squares(run: str, count: int) -> int:
    """Add up the squares below ``count``, each in a task of its own; the log names the run."""
    get_run_logger().info("proof %s adds up %s squares", run, count)
    return sum(future.result() for future in square.map(list(range(count))))


@flow  # type: ignore[untyped-decorator]
def on_schedule(run: str) -> str:
    """Do nothing but say so: the point is that it was scheduled and run."""
    get_run_logger().info("proof %s was run by process %s", run, os.getpid())
    return run


def background_task(run: str) -> Task[Any, Any]:
    """Return the task to send with ``.delay()``. Its key holds the run, so that no other task worker takes its runs."""

    def increment(number: int) -> int:
        return number + 1

    increment.__qualname__ = increment.__name__ = f"proof_{run}"
    return task(increment)


if __name__ == "__main__":
    serve(background_task(sys.argv[1]))
