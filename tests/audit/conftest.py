"""Makes the collection importable for the tests beside it."""

from __future__ import annotations

# What counts is that it runs.
import tests.load.collection  # noqa: F401  # pylint: disable=unused-import
