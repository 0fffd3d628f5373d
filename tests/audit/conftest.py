"""Makes the collection importable for the tests beside it."""

from __future__ import annotations

import tests.load.collection  # noqa: F401  # pylint: disable=unused-import
