"""Other servers, keys and stored responses."""

from __future__ import annotations

from localmodels.config.setting import DAY, Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "servers",
        "server",
        "",
        "Another server whose models are asked through this one, a table `[[servers]]` each.",
        "",
        "TABLE",
        many=True,
        sources=("file",),
        hot=True,
    ),
    Setting(
        "require_key",
        "switch",
        "false",
        "Ask programs of this machine for a key, too.",
        "--require-key",
    ),
    Setting(
        "response_retention",
        "duration",
        "720h",
        "How long answers of the Responses API are kept for their callers; 0 keeps none.",
        "--response-retention",
        "DURATION",
        high=3650 * DAY,
    ),
    Setting(
        "response_quota",
        "size",
        "1GiB",
        "Room on the disk that all kept answers together may take; the oldest go first.",
        "--response-quota",
        "SIZE",
        low=2**20,
        high=2**50,
    ),
    Setting(
        "artifact_quota",
        "size",
        "0",
        "Room on the disk that all uploaded artifacts together may take; 0: what the disk has.",
        "--artifact-quota",
        "SIZE",
        high=2**50,
    ),
    Setting(
        "insecure_no_auth",
        "switch",
        "false",
        "Answer anybody who reaches an address that is not loopback.",
        "--insecure-no-auth",
        sources=("flag",),
    ),
)
