"""Settings: every setting of a run, the methods and protocols that fix some of them, and what the paper states."""

from segp_ext.config.data_sections import ClassOrder, DataConfig, LoadingConfig
from segp_ext.config.method_sections import (
    LORA_WORDS,
    PATHS,
    AnchorsConfig,
    LoraConfig,
    PrototypesConfig,
    ScorePath,
    TrainingConfig,
)
from segp_ext.config.plain_values import check_settings, dotted, fits, from_dict, setting_types
from segp_ext.config.run_sections import Precision, ResizeMode, RunConfig
from segp_ext.config.schema import RESUMABLE, Config, MethodConfig, with_method

__all__ = [
    "LORA_WORDS",
    "PATHS",
    "RESUMABLE",
    "AnchorsConfig",
    "ClassOrder",
    "Config",
    "DataConfig",
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
