"""The configuration as a value: every setting, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from localmodels.core.address import Address
from localmodels.core.catalog import ModelName
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec

# When a model's files are hashed before they are loaded.
Policy = Literal["first", "always", "never"]

# Which of the hosts that have a model is asked; the rows of ``fleet.routing.POLICIES``.
PolicyName = Literal["auto", "priority", "least_busy", "round_robin", "prefix"]


class ConfigError(Exception):
    """A setting that cannot be used; the message is for the person who set it."""


class ModelFile(Struct, frozen=True):
    """A model run from where it lies: its name, its GGUF file and, for models that see, the projector's file."""

    name: ModelName
    file: Path
    projector: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.file}" + (f",{self.projector}" if self.projector else "")


class Alias(Struct, frozen=True):
    """Another name for a model."""

    name: ModelName
    model: ModelName

    def __str__(self) -> str:
        return f"{self.name}={self.model}"


class ForHost(Struct, frozen=True):
    """URLs that belong to the host of a registry, as names of models write it."""

    host: str
    urls: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.host}={','.join(self.urls)}"


class Config(Struct, frozen=True, kw_only=True):
    """Every setting, checked. What each means stands in its row of ``SETTINGS``.

    Durations are seconds (``keep_alive`` < 0 is for ever), sizes bytes, paths absolute.
    """

    listen: tuple[Address, ...]
    home: Path
    models: tuple[Path, ...]
    model: tuple[ModelFile, ...]
    default_model: str
    alias: tuple[Alias, ...]
    llama_server: Path | None
    keep_alive: float
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    kv_cache_type: str
    memory_limit: int
    gpu_layers: int
    spin: bool
    verify: Policy
    load_timeout: float
    queue_timeout: float
    max_wait: float
    chat_timeout: float
    drain_timeout: float
    max_connections: int
    max_connections_per_address: int
    allowed_hosts: tuple[str, ...]
    origins: tuple[str, ...]
    request_templates: bool
    hf_endpoint: str
    hf_token: Secret
    mirrors: tuple[ForHost, ...]
    insecure_registries: tuple[str, ...]
    trusted_origins: tuple[ForHost, ...]
    ca_file: Path | None
    servers: tuple[ServerSpec, ...]
    require_key: bool
    response_retention: float
    response_quota: int
    artifact_quota: int
    insecure_no_auth: bool
    routing_policy: PolicyName
    pull_missing: bool
    register_ollama: bool
    database_url: Secret
    log_level: str
    log_format: str
    access_log: bool
    capture: float
    capture_quota: int
    traces: str
