"""Settings: every setting of a run, the methods and protocols that fix some of them, and what the paper states.

The settings:
    schema: the two whole configurations, `MethodConfig` for a learner and `Config` for a run.
    method_sections, data_sections, run_sections: their sections, with default and meaning of every setting.
    setting: how a field is declared, and the facts about it (the paper, --resume, protocols, --help).
    checks: checks of single values.
    plain_values: settings as nested plain values, and their types in words.

Groups of settings:
    methods: settings under the name of a method, and `add_method`.
    protocols: settings under the name of a benchmark protocol.
    layers: which setting holds among defaults, protocol, files and changes.

Files and names:
    settings_files: reading files of settings, and the package's own files (segp_ext/presets/).
    yaml_dialect: the YAML of these files.
    imports: running the Python files of --import.
    named: the class that a setting names.
    hints: close names for a name that does not exist.

The paper:
    paper: tables of other values and of choices without a setting; the source of a default.
"""

from segp_ext.config.data_sections import ClassOrder, DataConfig, LoadingConfig
from segp_ext.config.method_sections import (
    FROZEN_PATHS,
    LORA_WORDS,
    PATHS,
    AnchorsConfig,
    CalibrationConfig,
    ExtraLossConfig,
    LoraConfig,
    PrototypesConfig,
    ScorePath,
    TrainingConfig,
)
from segp_ext.config.plain_values import check_settings, dotted, fits, from_dict, setting_types
from segp_ext.config.run_sections import Precision, ResizeMode, RunConfig
from segp_ext.config.schema import RESUMABLE, Config, MethodConfig, with_method

__all__ = [
    "FROZEN_PATHS",
    "LORA_WORDS",
    "PATHS",
    "RESUMABLE",
    "AnchorsConfig",
    "CalibrationConfig",
    "ClassOrder",
    "Config",
    "DataConfig",
    "ExtraLossConfig",
    "LoadingConfig",
    "LoraConfig",
    "MethodConfig",
    "Precision",
    "PrototypesConfig",
    "ResizeMode",
    "RunConfig",
    "ScorePath",
    "TrainingConfig",
    "check_settings",
    "dotted",
    "fits",
    "from_dict",
    "setting_types",
    "with_method",
]
