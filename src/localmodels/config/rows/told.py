"""What the server tells of itself."""

from __future__ import annotations

from localmodels.config.setting import DAY, Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "log_level",
        "choice",
        "info",
        "Least weight of what is logged.",
        "--log-level",
        "LEVEL",
        choices=("debug", "info", "warning", "error"),
        hot=True,
    ),
    Setting(
        "log_format",
        "choice",
        "text",
        "Lines for people, or one JSON object a line.",
        "--log-format",
        "FORMAT",
        choices=("text", "json"),
        hot=True,
    ),
    Setting(
        "access_log",
        "switch",
        "true",
        "A line in the log for each request: what was asked of whom, how it went; never what was said.",
        "--access-log",
        hot=True,
    ),
    Setting(
        "capture",
        "duration",
        "0",
        "How long each request to a model is kept with its answer, as a file in `captures` of the home, prompts and "
        "all. 0 keeps nothing, and removes what there is.",
        "--capture",
        "DURATION",
        high=30 * DAY,
        hot=True,
    ),
    Setting(
        "capture_quota",
        "size",
        "64MiB",
        "Disk for these files; the oldest go.",
        "--capture-quota",
        "SIZE",
        high=2**50,
        hot=True,
    ),
    Setting(
        "traces",
        "url",
        "",
        "Where traces are sent, by OTLP over HTTP; empty: nowhere. Needs the extra `otel`.",
        "--traces",
        "URL",
        environ=("OTEL_EXPORTER_OTLP_ENDPOINT",),
    ),
)
