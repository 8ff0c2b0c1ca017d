"""Settings: where each is found, which wins, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmodels.config import (
    KINDS,
    SETTINGS,
    Alias,
    Config,
    ConfigError,
    ForHost,
    ModelFile,
    Settings,
    check_binds,
    expected,
    load,
)
from localmodels.core.address import Address
from localmodels.core.catalog import ModelName

HOME = {"HOME": "/home/ada"}
DATA = Path("/home/ada/.local/share/localmodels")


def loaded(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    file: str | None = None,
    platform: str = "linux",
) -> Settings:
    """Settings from a world that has one file at most, wherever it is looked for."""

    def read_file(path: Path) -> bytes:
        if file is None:
            raise FileNotFoundError(path)
        return file.encode()

    variables = HOME if environ is None else {**HOME, **environ}
    return load(flags or {}, variables, read_file=read_file, platform=platform, directory=Path("/srv"))


def refused(flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, file: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environ, file)
    return str(caught.value)


def test_the_table_and_the_value_name_the_same_settings() -> None:
    assert tuple(SETTINGS) == Config.__struct_fields__


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_row_is_whole(setting: object) -> None:
    row = SETTINGS[setting.name]  # type: ignore[attr-defined]
    assert row.kind in KINDS
    assert row.doc.endswith(".")
    assert row.flag.startswith("--") is ("flag" in row.sources)
    assert callable(row.default) is bool(row.default_doc)
    assert (row.kind == "switch") is (row.metavar == "")


def test_defaults() -> None:
    settings = loaded()
    config = settings.config
    assert config.listen == (Address("127.0.0.1", 8000), Address("127.0.0.1", 11434))
    assert config.home == DATA
    assert config.models[:2] == (Path("/home/ada/.ollama/models"), Path("/usr/share/ollama/.ollama/models"))
    assert (config.keep_alive, config.load_timeout, config.drain_timeout) == (300, 600, 30)
    assert (config.num_parallel, config.max_queue, config.gpu_layers) == (0, 512, -1)
    assert (config.model, config.alias, config.origins, config.llama_server) == ((), (), (), None)
    assert set(settings.origins.values()) == {"default"}
    check_binds(config, has_keys=False)


def test_flag_over_environment_over_file_over_default() -> None:
    everywhere = loaded({"max_queue": "1"}, {"LOCALMODELS_MAX_QUEUE": "2"}, "max_queue = 3")
    without_flag = loaded({"max_queue": None}, {"LOCALMODELS_MAX_QUEUE": "2"}, "max_queue = 3")
    only_file = loaded({}, {"LOCALMODELS_MAX_QUEUE": ""}, "max_queue = 3")
    assert [s.config.max_queue for s in (everywhere, without_flag, only_file)] == [1, 2, 3]
    assert [s.origins["max_queue"] for s in (everywhere, without_flag, only_file)] == [
        "flag --max-queue",
        "environment LOCALMODELS_MAX_QUEUE",
        f"file {DATA}/localmodels.toml",
    ]


def test_our_own_name_in_the_environment_comes_before_ollamas() -> None:
    both = {"OLLAMA_KEEP_ALIVE": "1m", "LOCALMODELS_KEEP_ALIVE": "2m"}
    assert loaded(environ=both).config.keep_alive == 120


@pytest.mark.parametrize(
    ("word", "text", "name", "value"),
    [
        ("OLLAMA_HOST", "gpu", "listen", (Address("gpu", 11434),)),
        ("OLLAMA_HOST", "gpu:1", "listen", (Address("gpu", 1),)),
        ("OLLAMA_HOST", ":8080", "listen", (Address("127.0.0.1", 8080),)),
        ("OLLAMA_HOST", "http://127.0.0.1:9", "listen", (Address("127.0.0.1", 9),)),
        ("OLLAMA_HOST", ' "[::1]:9" ', "listen", (Address("::1", 9),)),
        ("OLLAMA_MODELS", "/srv/models", "models", (Path("/srv/models"),)),
        ("OLLAMA_MODELS", "~/models", "models", (Path("/home/ada/models"),)),
        ("OLLAMA_KEEP_ALIVE", "-1", "keep_alive", -1),
        ("OLLAMA_KEEP_ALIVE", "-1m", "keep_alive", -1),
        ("OLLAMA_KEEP_ALIVE", "90", "keep_alive", 90),
        ("OLLAMA_NUM_PARALLEL", "4", "num_parallel", 4),
        ("OLLAMA_MAX_LOADED_MODELS", "2", "max_loaded_models", 2),
        ("OLLAMA_MAX_QUEUE", "9", "max_queue", 9),
        ("OLLAMA_CONTEXT_LENGTH", "8192", "context_length", 8192),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0", "kv_cache_type", "q8_0"),
        ("OLLAMA_ORIGINS", "http://a.org, https://B.org/", "origins", ("http://a.org", "https://b.org")),
        ("OLLAMA_LOAD_TIMEOUT", "1h30m", "load_timeout", 5400),
    ],
)
def test_ollamas_environment(word: str, text: str, name: str, value: object) -> None:
    settings = loaded(environ={word: text})
    assert getattr(settings.config, name) == value
    assert settings.origins[name] == f"environment {word}"


def test_models_with_projector_and_aliases() -> None:
    config = loaded({"model": ["Eye=eye.gguf,~/mmproj.gguf", "b:7b=/b.gguf"], "alias": ["gpt=b:7b"]}).config
    assert config.model == (
        ModelFile(ModelName.parse("Eye"), Path("/srv/eye.gguf"), Path("/home/ada/mmproj.gguf")),
        ModelFile(ModelName.parse("b:7b"), Path("/b.gguf")),
    )
    assert config.alias == (Alias(ModelName.parse("gpt"), ModelName.parse("b:7b")),)


def test_paths_in_the_file_start_from_the_file() -> None:
    settings = loaded({"config": "etc/x.toml"}, file='llama_server = "bin/llama-server"')
    assert settings.config.llama_server == Path("/srv/etc/bin/llama-server")
    assert settings.origins["llama_server"] == "file /srv/etc/x.toml"


def test_lists_and_tables_in_the_file() -> None:
    config = loaded(file='listen = ["[::1]:1", ":2"]\nspin = true\nkeep_alive = 60\n[model]\nm = "/m.gguf"').config
    assert config.listen == (Address("::1", 1), Address("127.0.0.1", 2))
    assert config.spin
    assert config.keep_alive == 60
    assert config.model == (ModelFile(ModelName.parse("m"), Path("/m.gguf")),)


def test_the_file_is_looked_for_in_the_home() -> None:
    seen = []

    def read_file(path: Path) -> bytes:
        seen.append(path)
        raise FileNotFoundError(path)

    load({"home": "place"}, {}, read_file=read_file, platform="linux", directory=Path("/srv"))
    assert seen == [Path("/srv/place/localmodels.toml")]


@pytest.mark.parametrize(
    ("environ", "platform", "home"),
    [
        ({"XDG_DATA_HOME": "/data"}, "linux", "/data/localmodels"),
        ({"XDG_DATA_HOME": "relative"}, "linux", "/home/ada/.local/share/localmodels"),
        ({}, "darwin", "/home/ada/Library/Application Support/LocalModels"),
        ({"LOCALMODELS_HOME": "here"}, "linux", "/srv/here"),
    ],
)
def test_home(environ: dict[str, str], platform: str, home: str) -> None:
    assert loaded(environ=environ, platform=platform).config.home == Path(home)


def test_without_a_home_directory_a_flag_is_needed_and_enough() -> None:
    def nothing(path: Path) -> bytes:
        raise FileNotFoundError(path)

    with pytest.raises(ConfigError, match="--home"):
        load({}, {}, read_file=nothing)
    assert load({"home": "/x"}, {}, read_file=nothing, platform="linux").config.home == Path("/x")


@pytest.mark.parametrize("name", ["models", "home"])
def test_a_tilde_needs_a_home(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: '~/x'"):
        load({"home": "/x", name: "~/x"}, {}, read_file=lambda path: b"", platform="linux")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("listen", "127.0.0.1:65536"),
        ("listen", "ftp://a"),
        ("listen", "a b"),
        ("model", "name-only"),
        ("model", "../evil=/m.gguf"),
        ("alias", "a="),
        ("keep_alive", "soon"),
        ("keep_alive", "nan"),
        ("load_timeout", "0"),
        ("load_timeout", "-1"),
        ("num_parallel", "65"),
        ("num_parallel", "-1"),
        ("num_parallel", "1.5"),
        ("gpu_layers", "-2"),
        ("memory_limit", "8 apples"),
        ("memory_limit", "9999999TiB"),
        ("kv_cache_type", "f8"),
        ("log_level", "INFO"),
        ("spin", "perhaps"),
        ("origins", "*"),
        ("origins", "http://*.org"),
        ("origins", "null"),
        ("origins", "file://"),
        ("origins", "https://a.org/path"),
        ("allowed_hosts", "a/b"),
        ("hf_endpoint", "hub.example"),
        ("hf_endpoint", "ftp://hub.example"),
        ("hf_endpoint", "https://me:secret@hub.example"),
        ("hf_endpoint", "https://hub.example/?a=b"),
        ("mirrors", "registry.example"),
        ("mirrors", "registry.example=cache.example"),
        ("mirrors", "a/b=https://cache.example"),
        ("mirrors", "registry.example=https://one.example,"),
        ("insecure_registries", "http://registry.example"),
        ("insecure_registries", "registry.example/team"),
        ("trusted_origins", "registry.example=https://auth.example/path"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_origin_and_what_would_be_right(name: str, text: str) -> None:
    setting = SETTINGS[name]
    word = f"LOCALMODELS_{name.upper()}"
    assert refused({name: [text] if setting.many else text}) == (
        f"{name}: '{text}' (flag {setting.flag}) cannot be used; it must be {expected(setting)}"
    )
    assert refused(environ={word: text}).startswith(f"{name}: '{text}' (environment {word}) cannot be used")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("keepalive = 1", "did you mean 'keep_alive'?"),
        ("num-paralel = 1", "did you mean 'num_parallel'?"),
        ("zzz = 1", "`localmodels config` lists them all"),
        ("insecure_no_auth = true", "only with --insecure-no-auth"),
        ('home = "/x"', "only with --home"),
        ("max_queue = [1]", "max_queue: '[1]' (file"),
        ("max_queue = true", "max_queue: 'true' (file"),
        ("max_queue = 2020-01-01", "max_queue: '2020-01-01' (file"),
        ("max_queue = ", "is not TOML"),
        ('servers = "gpu"', "servers: '***' (file"),
        ("[servers]\na = 1", "it must be a table with name, url and kind"),
        ('[[servers]]\nname = "gpu"', "missing required field `url`; a server has name, url, kind, key_env"),
    ],
)
def test_what_the_file_may_not_say(file: str, part: str) -> None:
    assert part in refused(file=file)


def test_insecure_no_auth_is_a_flag_and_nothing_else() -> None:
    assert not loaded(environ={"LOCALMODELS_INSECURE_NO_AUTH": "1"}).config.insecure_no_auth
    assert loaded({"insecure_no_auth": True}).config.insecure_no_auth


def test_a_file_that_was_asked_for_must_be_there_and_readable() -> None:
    def unreadable(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ConfigError, match=r"config: there is no file /srv/x\.toml"):
        loaded({"config": "x.toml"})
    with pytest.raises(ConfigError, match=r"there is no file /srv/y\.toml"):
        loaded(environ={"LOCALMODELS_CONFIG": "y.toml"})
    with pytest.raises(ConfigError, match=r"cannot read .*: Permission denied"):
        load({}, HOME, read_file=unreadable)


def test_what_has_no_effect_is_noted() -> None:
    environ = {"LOCALMODELS_KEEPALIVE": "1", "OLLAMA_FLASH_ATTENTION": "1", "LOCALMODELS_HOST": "a", "OTHER": "1"}
    assert loaded(environ=environ).notes == (
        "LOCALMODELS_KEEPALIVE is no setting; did you mean 'keep_alive'?",
        "OLLAMA_FLASH_ATTENTION is ignored: the engine decides on flash attention by itself",
    )


# Threat V-24: ways to say "the network".
NETWORK = (
    "0.0.0.0:1", "[::]:1", "192.168.1.2:1", "10.0.0.5:1", "172.17.0.1:1", "100.64.0.1:1", "169.254.1.1:1", "8.8.8.8:1",
    "[2001:db8::1]:1", "[fe80::1]:1", "[::ffff:10.0.0.5]:1", "box:1",
)  # fmt: skip


@pytest.mark.parametrize("listen", NETWORK)
def test_the_network_needs_a_key_or_a_plain_word(listen: str) -> None:
    config = loaded({"listen": ["127.0.0.1:8000", listen]}).config
    with pytest.raises(ConfigError) as caught:
        check_binds(config, has_keys=False)
    ways = str(caught.value).splitlines()
    assert ways[0].startswith(f"{listen} can be reached")
    assert len(ways) == 6
    assert ways[1].endswith(f"localmodels keys add NAME --admin --home {config.home}")
    assert ways[-1].endswith("--insecure-no-auth")
    check_binds(config, has_keys=True)
    check_binds(loaded({"listen": [listen], "insecure_no_auth": True}).config, has_keys=False)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.0.1:1", "localhost:1", "[::1]:1"])
def test_loopback_needs_none(listen: str) -> None:
    check_binds(loaded({"listen": [listen]}).config, has_keys=False)


def test_registries() -> None:
    config = loaded(
        file="""
            insecure_registries = ["LAN.example:5000"]
            hf_endpoint = "https://hub.example/hf/"
            ca_file = "ca.pem"
            [mirrors]
            "registry.ollama.ai" = "http://10.0.0.5:5000/cache,https://cache.example"
            [trusted_origins]
            "registry.example" = "https://auth.example"
        """
    ).config
    assert config.insecure_registries == ("lan.example:5000",)
    assert config.hf_endpoint == "https://hub.example/hf"
    assert config.ca_file == DATA / "ca.pem"
    assert config.mirrors == (ForHost("registry.ollama.ai", ("http://10.0.0.5:5000/cache", "https://cache.example")),)
    assert config.trusted_origins == (ForHost("registry.example", ("https://auth.example",)),)
    environ = {"LOCALMODELS_MIRRORS": "a=https://x,https://y; b=https://z", "HF_ENDPOINT": "http://[::1]:80"}
    assert [str(one) for one in loaded(environ=environ).config.mirrors] == ["a=https://x,https://y", "b=https://z"]
    assert loaded(environ=environ).config.hf_endpoint == "http://[::1]:80"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3cret@box:5432/fleet", "postgresql://me:***@box:5432/fleet"),
        ("postgres://me:s3@cr:et@box/fleet", "postgres://me:***@box/fleet"),
        (
            "postgresql://me@/fleet?host=/run/pg&password=s3cret&x=1",
            "postgresql://me@/fleet?host=/run/pg&password=***&x=1",
        ),
        ("postgresql://box/fleet", "postgresql://box/fleet"),
        ("postgresql://me:p@s3cret?s3cret@box/fleet", "postgresql://***"),
        ("postgresql://me:p@ss#s3cret@box/fleet", "postgresql://***"),
        ("postgres://me:s3/cr@et@box/fleet", "postgres://***"),
        ("postgresql://me@s3cret:s3?cret@box/fleet", "postgresql://***"),
    ],
)
def test_a_database_is_shown_without_its_password(url: str, shown: str) -> None:
    settings = loaded(flags={"database_url": url})
    assert settings.config.database_url.reveal() == url
    assert settings.text("database_url") == shown


def test_no_word_of_a_wrong_database_is_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(flags={"database_url": "mysql://me:s3cret@box/fleet"})
    assert "s3cret" not in str(refused.value)
    assert "postgresql://USER:PASSWORD@HOST:PORT/NAME" in str(refused.value)


def test_a_secret_is_neither_shown_nor_taken_from_where_others_can_read_it() -> None:
    settings = loaded(environ={"HF_TOKEN": "hf_sesame"})
    assert settings.config.hf_token.reveal() == "hf_sesame"
    assert settings.text("hf_token") == "***"
    assert loaded().text("hf_token") == ""
    assert "sesame" not in repr(settings)
    assert "HF_TOKEN in the environment" in refused(file='hf_token = "hf_sesame"')
    with pytest.raises(ConfigError) as caught:
        loaded(environ={"HF_TOKEN": "hf sesame"})
    assert "sesame" not in str(caught.value)


GPU = """
[[servers]]
name = "gpu"
url = "http://10.0.0.5:8000/v1"
kind = "openai"
key_env = "GPU_KEY"
models = ["big"]
first_byte = "5m"

[[servers]]
name = "lab"
url = "http://lab:11434"
kind = "ollama"
key_file = "lab.key"
"""


def with_keys(path: Path) -> bytes:
    return GPU.encode() if path.name == "localmodels.toml" else b"sk-lab\n"


def test_servers_and_their_keys() -> None:
    environ = {**HOME, "GPU_KEY": "sk-gpu"}
    settings = load({}, environ, read_file=with_keys, platform="linux", directory=Path("/srv"))
    gpu, lab = settings.config.servers
    assert (gpu.name, gpu.url, gpu.kind, gpu.models) == ("gpu", "http://10.0.0.5:8000", "openai", ("big",))
    assert (gpu.first_byte, gpu.key.reveal(), lab.key.reveal()) == (300, "sk-gpu", "sk-lab")
    assert settings.text("servers") == ["gpu=http://10.0.0.5:8000 (openai)", "lab=http://lab:11434 (ollama)"]
    assert settings.origins["servers"] == f"file {DATA}/localmodels.toml"
    assert "sk-" not in repr(settings)


def test_a_key_that_is_not_there_ends_the_start() -> None:
    with pytest.raises(
        ConfigError, match=r"servers \(file .*\), table 1: the server 'gpu': key_env: GPU_KEY in the environment"
    ):
        load({}, HOME, read_file=with_keys, platform="linux", directory=Path("/srv"))


@pytest.mark.parametrize(
    ("second", "part"),
    [
        ('name = "gpu"\nurl = "http://b:1"\nkind = "ollama"', "the server 'gpu' is there twice"),
        ('name = "b"\nurl = "http://b:1"\nkind = "ollama"\nmodels = ["m"]', "the model 'm' is there twice, of gpu and"),
        ('name = "b"\nurl = "http://localhost:11434"\nkind = "ollama"', "'b' is this one: localhost:11434"),
        ('name = "b"\nurl = "http://127.0.0.1:8000/v1"\nkind = "openai"', "'b' is this one"),
        ('name = "b"\nurl = "http://b:1"\nkind = "ollama"\nkey = "sk-inline"', "there is no field 'key'"),
    ],
)
def test_servers_beside_each_other_and_beside_ourselves(second: str, part: str) -> None:
    first = 'name = "gpu"\nurl = "http://a:1"\nkind = "openai"\nmodels = ["m"]'
    message = refused(file=f"[[servers]]\n{first}\n[[servers]]\n{second}")
    assert part in message
    assert "sk-" not in message


def test_texts_read_back_to_the_same_values() -> None:
    settings = loaded(
        {
            "model": ["a=/a.gguf,/p.gguf"],
            "alias": ["x=y"],
            "memory_limit": "8GiB",
            "keep_alive": "90",
            "mirrors": ["hf.co=https://one.example,http://two.example:80/x", "hf.co=https://three.example"],
            "trusted_origins": ["hf.co=https://store.example"],
            "insecure_registries": ["lan:5000", "[::1]:5000"],
        }
    )
    again = loaded({name: settings.text(name) for name in SETTINGS if settings.text(name)})
    assert again.config == settings.config
    assert settings.text("memory_limit") == "8GiB"
    assert settings.text("keep_alive") == "1m30s"
