"""What the server tells of itself."""

from __future__ import annotations

from localmodels.config.setting import Setting

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
        "traces",
        "url",
        "",
        "Where traces are sent, by OTLP over HTTP; empty: nowhere. Needs the extra `otel`.",
        "--traces",
        "URL",
        environ=("OTEL_EXPORTER_OTLP_ENDPOINT",),
    ),
)
