"""Property tests draw the same examples every time, on machines of any speed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "localmodels", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("localmodels")
