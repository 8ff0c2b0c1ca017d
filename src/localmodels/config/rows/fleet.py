"""Many servers behind this one, and several of these behind one database."""

from __future__ import annotations

from localmodels.config.setting import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "routing_policy",
        "choice",
        "auto",
        "Which of the hosts that have a model is asked: the soonest to answer, or by one thing alone.",
        "--routing-policy",
        "POLICY",
        choices=("auto", "priority", "least_busy", "round_robin", "prefix"),
        hot=True,
    ),
    Setting(
        "pull_missing",
        "switch",
        "false",
        "Have a model that no host has pulled to the best one when somebody asks for it.",
        "--pull-missing",
        hot=True,
    ),
    Setting(
        "register_ollama",
        "switch",
        "true",
        "Register an Ollama that answers at our own default port as the server `ollama`.",
        "--register-ollama",
    ),
    Setting(
        "database_url",
        "database",
        "",
        "PostgreSQL for keys, usage, tasks, responses and servers, shared by several gateways; empty: files in the "
        "home. Needs the extra `postgres`.",
        "--database-url",
        "URL",
    ),
)
