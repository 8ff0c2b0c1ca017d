"""Where models are fetched from and brought to."""

from __future__ import annotations

from localmodels.config.setting import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "hf_endpoint",
        "url",
        "https://huggingface.co",
        "Where the models of hf.co are: Hugging Face's hub, or one that stands in for it.",
        "--hf-endpoint",
        "URL",
        environ=("HF_ENDPOINT",),
    ),
    Setting(
        "hf_token",
        "secret",
        "",
        "Token for that hub, and for nobody else; empty: the login of hf.co.",
        "",
        "TOKEN",
        environ=("HF_TOKEN",),
        sources=("environment",),
    ),
    Setting(
        "mirrors",
        "mirror",
        "",
        "Where a registry's models are looked for first, in this order; the registry itself comes last.",
        "--mirror",
        "HOST=URL[,URL]",
        many=True,
        separator=";",
    ),
    Setting(
        "insecure_registries",
        "registry",
        "",
        "Registry that is spoken to by plain HTTP.",
        "--insecure-registry",
        "HOST[:PORT]",
        many=True,
    ),
    Setting(
        "trusted_origins",
        "trust",
        "",
        "Origin to which a registry may send us: its token service, which gets its login, or its store of files.",
        "--trusted-origin",
        "HOST=URL[,URL]",
        many=True,
        separator=";",
    ),
    Setting(
        "ca_file",
        "path",
        "",
        "File with further certificate authorities (PEM) that registries may have their certificates from.",
        "--ca-file",
        "FILE",
    ),
)
