"""The table of settings, a file a subject; their order is that of the help text and of the reference."""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.config.rows import engine, fleet, others, registries, requests, served, told
from localmodels.config.setting import Setting

SETTINGS: Mapping[str, Setting] = {
    row.name: row for subject in (served, engine, requests, registries, others, fleet, told) for row in subject.ROWS
}
