"""The LoRA adapter of a CLIP model: put on, trained, saved and loaded, merged into the weights, switched off. PEFT does the work."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segp_ext.clip.adapter_layout import NEEDS_ADAPTABLE, from_plain, packed_projections, plain_names, to_plain
from segp_ext.clip.encoders import View
from segp_ext.clip.lora_targets import shares_start
from segp_ext.config import LoraConfig
from segp_ext.runtime.process_state import float32_by_default, seeded


def widest_rank(layer: nn.Module) -> int:
    """The highest rank that a change of a layer's weight can have."""
    weight: Any = layer.weight
    return min(weight[0].numel(), len(weight))


class Adapter:
    """The one adapter that a CLIP model can carry; at first the model carries none.

    Args:
        clip: an open_clip model after `segp_ext.clip.towers.make_adaptable`. It is changed in place.

    Attributes:
        trained: the matrices B; empty without an adapter.
        merged_layers: the adapted layers while they are merged, else none: PEFT's layer, its base layer, and the base weight before.
    """

    def __init__(self, clip: nn.Module) -> None:
        self.clip = clip
        self.trained: list[nn.Parameter] = []
        self.merged_layers: list[tuple[Any, Any, Tensor]] = []
        self._peft: Any = None
        self._is_off = False
        self._ranks: dict[str, int] = {}  # of the adapted layers, by name
        self._rank = self._alpha = 0  # as asked for

    @property
    def view(self) -> View:
        """The state that the model's passes see."""
        if self._peft is None:
            return "plain"
        if self.merged_layers:
            return "merged"
        return "reference" if self._is_off else "adapted"

    def put_on(self, names: list[str], config: LoraConfig, seed: int) -> None:
        """Puts a fresh adapter on layers of a model that carries none: A random orthonormal and frozen, B zero.

        Projections of one attention that read the same input get the same A. A layer that is narrower than the rank gets its width as
        rank, and the scale of the others.

        Args:
            names: names of the layers.
            config: rank and alpha.
            seed: seed of the draws of A.
        """
        from peft import get_peft_model

        widths: dict[str, int] = {}
        for name in names:
            group = shares_start(name)
            own = widest_rank(self.clip.get_submodule(name))
            widths[group] = min(own, config.rank, widths.get(group, config.rank))
        self._ranks = {name: widths[shares_start(name)] for name in names}
        self._rank, self._alpha = config.rank, config.rank if config.alpha is None else config.alpha
        starts: dict[str, Tensor] = {}
        with seeded(seed), torch.device("cpu"), float32_by_default(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT warns of target modules that its own registry does not know
            self._peft = get_peft_model(self.clip, self._settings(self._ranks))
            for name in names:
                matrix: Any = self.clip.get_submodule(name).lora_A["default"].weight  # type: ignore[index, union-attr]
                group = shares_start(name)
                if group not in starts:
                    starts[group] = nn.init.orthogonal_(torch.empty(matrix.shape, dtype=torch.float32, device="cpu"))
                matrix.data.copy_(starts[group])
        self.trained = [parameter for name, parameter in self.clip.named_parameters() if ".lora_B." in name]
        self._train_b_alone()
        self.clip.eval()

    def check_none(self) -> None:
        """Raises ValueError if the model carries an adapter."""
        if self._peft is not None:
            raise ValueError("this backbone carries an adapter already; a learner needs a backbone of its own")

    def take_off(self) -> None:
        """Removes the adapter from the model, which is then as it was before `put_on`."""
        self.unmerge()
        if self._peft is not None:
            self._peft.unload().requires_grad_(False)
            self._peft, self.trained, self._ranks = None, [], {}

    def _settings(self, ranks: dict[str, int]) -> Any:
        """Returns PEFT's settings for an adapter of these ranks, by module."""
        from peft import LoraConfig as PeftLoraConfig

        # Patterns, because PEFT matches a list by suffix, and the text tower's names are suffixes of the vision tower's.
        narrow = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank < self._rank}
        return PeftLoraConfig(
            r=self._rank,
            lora_alpha=self._alpha,
            target_modules="|".join(re.escape(name) for name in ranks),
            rank_pattern=narrow,
            alpha_pattern={name: self._alpha * rank / self._rank for name, rank in narrow.items()},
        )

    def _train_b_alone(self) -> None:
        """Lets gradients flow to the matrices B alone; PEFT switches A on too whenever it enables an adapter."""
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(".lora_B." in name)

    # -- saving and loading ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """The adapter's tensors, named and packed as PEFT saves them for the plain open_clip model; empty without an adapter.

        Some models cannot carry an adapter in that way; see `segp_ext.clip.adapter_layout.packed_projections`.
        """
        if self._peft is None:
            return {}
        from peft import get_peft_model_state_dict

        return to_plain(get_peft_model_state_dict(self._peft), packed_projections(self.clip, self._ranks) or [])

    def config(self) -> dict[str, Any] | None:
        """The adapter's settings as PEFT writes them beside the tensors of `state`; None without an adapter."""
        if self._peft is None:
            return None
        packed = packed_projections(self.clip, self._ranks)
        plain = plain_names(self._ranks, packed or [])
        settings = self._settings({plain[name]: rank for name, rank in self._ranks.items()}).to_dict()
        if packed is None:
            settings[NEEDS_ADAPTABLE] = "call it on the open_clip model, then open the adapter"
        return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Loads the tensors that `state` gave.

        Raises:
            ValueError: if names or shapes differ, or the tensors change a layer that is not adapted here.
        """
        from peft import set_peft_model_state_dict

        self.unmerge()
        own = self.state()
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())[0]
            raise ValueError(f"adapter tensors do not match this backbone and lora settings; first difference: {odd}")
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise ValueError(f"adapter tensor {name} must be {list(own[name].shape)}; got {list(tensor.shape)}")
        if self._peft is not None:
            packed = packed_projections(self.clip, self._ranks) or []
            set_peft_model_state_dict(self._peft, from_plain(state, packed, self._ranks))
            self._train_b_alone()

    # -- merged, or off --------------------------------------------------------------------------------------------------------

    def merge(self) -> None:
        """Merges the adapter into the weights: the same function, without the adapter's cost, and with gradients to the inputs alone.

        Does nothing if it is merged already. The base weights are kept aside until `unmerge`, as merging rounds.
        """
        from peft.tuners.lora import LoraLayer

        if self.merged_layers:
            return
        try:
            for module in self.clip.modules():
                if isinstance(module, LoraLayer):
                    layer: Any = module.get_base_layer()
                    self.merged_layers.append((module, layer, layer.weight.data))
                    layer.weight.data = layer.weight.data.clone()
                    with torch.no_grad():
                        module.merge()
            for parameter in self.trained:
                parameter.requires_grad_(False)
        except BaseException:
            self.unmerge()
            raise

    def unmerge(self) -> None:
        """Takes the adapter out of the weights again, which are then the same as before to the bit."""
        if not self.merged_layers:
            return
        for module, layer, original in self.merged_layers:
            if module.merged:
                module.unmerge()
            layer.weight.data = original
        self.merged_layers.clear()
        self._train_b_alone()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merges the adapter inside the block, and restores it afterwards."""
        before = bool(self.merged_layers)
        self.merge()
        try:
            yield
        finally:
            if not before:
                self.unmerge()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switches the adapter off inside the block, and restores it afterwards."""
        before = bool(self.merged_layers)
        self.unmerge()
        if self._peft is None:
            yield
        else:
            try:
                with self._peft.disable_adapter():
                    self._is_off = True
                    yield
            finally:
                self._is_off = False
                self._train_b_alone()
                if before:
                    self.merge()
