"""Finds the parts that a method's settings name, and checks that they go together."""

from __future__ import annotations

from segp_ext.config import MethodConfig
from segp_ext.config.methods import FILES
from segp_ext.config.named import code_hash, file_hash
from segp_ext.method.heads import Head, find_head
from segp_ext.method.losses import Loss, find_loss
from segp_ext.method.sources import Source, find_source


def source_of(config: MethodConfig) -> type[Source] | None:
    """Finds the source of the method's anchors; None for anchors.kind none.

    Raises:
        ValueError: if there is no such source.
    """
    return None if config.anchors.kind == "none" else find_source(config.anchors.kind)


def head_of(config: MethodConfig) -> type[Head]:
    """Finds the head of the visual path.

    Raises:
        ValueError: if there is no such head.
    """
    return find_head(config.prototypes.score)


def loss_of(config: MethodConfig) -> type[Loss] | None:
    """Finds the loss of one's own; None without one.

    Raises:
        ValueError: if there is no such loss.
    """
    return None if config.extra_loss.kind is None else find_loss(config.extra_loss.kind)


def check_parts(config: MethodConfig) -> None:
    """Refuses settings that do not go with the parts that they name.

    Args:
        config: as `with_method` gives it.

    Raises:
        ValueError: naming the setting.
    """
    source = source_of(config)
    if source is not None:
        source.check(config)
    head_of(config).check(config)
    loss = loss_of(config)
    if loss is not None:
        loss.check(config)


def own_code(config: MethodConfig) -> dict[str, str]:
    """Returns the SHA-256 of each file of the user's own method and parts, by the names that settings have for them."""
    named = {
        config.anchors.kind: source_of(config),
        config.prototypes.score: head_of(config),
        config.extra_loss.kind: loss_of(config),
    }
    hashes = {name: code_hash(part) for name, part in named.items() if name is not None and part is not None}
    if config.method in FILES:
        hashes[config.method] = file_hash(FILES[config.method])
    return {name: digest for name, digest in hashes.items() if digest is not None}
