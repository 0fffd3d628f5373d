"""The time of a migration, from sizes."""

from __future__ import annotations

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.duration import ROWS_PER_SECOND, SPREAD, START_SECONDS, estimate


@pytest.mark.parametrize(
    ("work", "rows", "likely"),
    [
        pytest.param([], 0, START_SECONDS, id="no table"),
        pytest.param([(0, 8192)], 16, START_SECONDS, id="an empty one"),
        pytest.param([(2_000_000, 1), (2_000_000, 1), (25_000, 1)], 4_025_000, 13, id="a large table twice, and a small one"),
        pytest.param([(10 * ROWS_PER_SECOND, 1)], 10 * ROWS_PER_SECOND, START_SECONDS + 10, id="rows count, and not bytes"),
        pytest.param([(0, 5_000_000_000)], 10_000_000, 23, id="one that was never analysed"),
    ],
)
def test_estimate(work: list[tuple[int, int]], rows: int, likely: int) -> None:
    found = estimate(work)
    assert (found.rows, found.likely) == (rows, likely)
    # An empty database is never refused, however little time there is.
    assert found.least == pytest.approx((likely - START_SECONDS) / SPREAD, abs=1)
    assert found.most == pytest.approx(likely * SPREAD, abs=1)
