"""What can be set, in one table, and how a setting is found.

``SETTINGS`` is the table: flags of ``serve``, names in the environment, keys of the file, ``localmodels config`` and
one page of the reference are all made from it. A setting is a row in ``rows/`` and a field of :class:`Config`.
"""

from localmodels.config.checks import check_binds, check_servers
from localmodels.config.found import Settings, expected, load
from localmodels.config.kinds import KINDS
from localmodels.config.rows import SETTINGS
from localmodels.config.setting import Setting
from localmodels.config.values import Alias, Config, ConfigError, ForHost, ModelFile, Policy

__all__ = [
    "KINDS",
    "SETTINGS",
    "Alias",
    "Config",
    "ConfigError",
    "ForHost",
    "ModelFile",
    "Policy",
    "Setting",
    "Settings",
    "check_binds",
    "check_servers",
    "expected",
    "load",
]
