# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The oldest versions that several Prefect servers work with."""

from __future__ import annotations

POSTGRES = "14.9"
REDIS = "6.2"
