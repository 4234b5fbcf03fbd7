"""Backbones of timm without their classifiers. timm is imported where it is used, since the import takes a second."""

import sys
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor, nn

from sslpipe.io.errors import UserError, nearest, one_line
from sslpipe.nets.architecture_names import multiples
from sslpipe.nets.layers import Backbone
from sslpipe.nets.recompute import recomputing

HEAD = "sslpipe_head"
"""Name of a weight of a classifier, which timm's networks are built without."""


class TimmBackbone(Backbone):
    """A backbone of timm without its classifier, initialised by timm."""

    def __init__(self, *, architecture: str, channels: int, side: int | None = None) -> None:
        """Build the backbone; raises UserError for an architecture that timm does not have, or not for this side.

        side: of the images, pixels, for architectures that take one side alone (vision transformers); None: their own.
        """
        import timm

        super().__init__()
        config = timm_config(architecture)
        self.architecture = architecture
        options: dict[str, Any] = {}
        if side is not None and config.fixed_input_size and side not in config.input_size[1:]:
            options["img_size"] = side
        try:
            model: Any = timm.create_model(architecture, num_classes=0, in_chans=channels, **options)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if not options:
                raise
            raise _wrong_side(architecture, side, f"it was made for {config.input_size[-1]} px: {error}") from None
        self.model = model
        self.options = options
        """Arguments of `timm.create_model` other than the architecture, the channels and the number of classes."""
        if side not in config.input_size[1:]:
            _check_patches(model, architecture, side)
        if model.pretrained_cfg.get("fixed_input_size"):
            self.side_multiple = None
        # num_features is that of the last feature map; in mobilenets and vggs a layer follows before the classifier.
        self.dimension = int(model.head_hidden_size)
        self._in_forward = False
        self._recomputation = ExitStack()

    def distances(self) -> dict[str, int]:
        """Return the distance of each weight from the head, in blocks, by timm's groups for layer-wise learning rates.

        Weights that timm groups with the classifier have 0.
        """
        from timm.models import group_parameters

        # No pattern of timm has the name HEAD, so it is grouped as a classifier is.
        weights = SimpleNamespace(named_parameters=lambda: [*self.model.named_parameters(), (HEAD, None)])
        groups = group_parameters(cast(nn.Module, weights), self.model.group_matcher(coarse=False), reverse=True)
        return {f"model.{name}": groups[HEAD] - group for name, group in groups.items() if name != HEAD}

    def set_recompute(self, recompute: bool) -> None:
        """Set `recompute`, by timm's `set_grad_checkpointing`; raises UserError for an architecture without it."""
        if recompute == self.recompute:
            return
        try:
            self.model.set_grad_checkpointing(recompute)
        except (AssertionError, AttributeError):
            raise UserError(
                f"network.recompute: true found, expected false, since timm's {self.architecture} cannot recompute its "
                "activations"
            ) from None
        super().set_recompute(recompute)
        # timm's checkpoints take no context: a layer that runs outside of `forward` is known to run a second time.
        for layer in self.model.modules() if recompute else ():
            if next(layer.buffers(recurse=False), None) is not None:
                layer.register_forward_pre_hook(self._begin)
                layer.register_forward_hook(self._end, always_call=True)

    def _begin(self, layer: nn.Module, inputs: Any) -> None:
        if not self._in_forward:
            self._recomputation.enter_context(recomputing(layer))

    def _end(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self._recomputation.close()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, channels, H, W] to features [B, dimension]; raises UserError for a wrong size."""
        self._in_forward = True
        try:
            features: Tensor = self.model(x)
        except AssertionError as error:  # vits raise it for images of another size
            raise UserError(
                f"network.architecture: '{self.architecture}' found, which does not accept images of {x.shape[-1]} px "
                f"({error}); use another one"
            ) from None
        finally:
            self._in_forward = False
        return features

    def resampled(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights for the architecture's own side as those for this backbone's side, by timm's own function.

        It interpolates the position embeddings of vision transformers; weights that need no change are returned as
        they are.
        """
        own = self.model.state_dict()
        if all(name in own and own[name].shape == tensor.shape for name, tensor in weights.items()):
            return dict(weights)
        return timm_translation(weights, self.model)


def timm_translation(weights: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Return what timm makes of a file's weights for a model: its module's `checkpoint_filter_fn`, if it has one.

    It knows the names of the architecture's original files, and interpolates position embeddings.
    """
    change = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if change is None:
        return dict(weights)
    with warnings.catch_warnings(action="ignore"):  # for timm's developers
        return dict(change(dict(weights), model))


def timm_config(architecture: str) -> Any:
    """Return timm's `PretrainedCfg` of the architecture's weights, those of its tag or else the default ones.

    Raises UserError for an architecture or a tag that timm does not have.
    """
    import timm

    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        raise _unknown(architecture, timm.list_models())
    try:
        return timm.models.get_pretrained_cfg(architecture)
    except RuntimeError:  # the tag is unknown
        raise _unknown(architecture, timm.list_pretrained(f"{name}.*")) from None


def patch_of(model: Any) -> int:
    """Return the side of a vision transformer's patches, pixels, of which the images' side is a multiple; else 1."""
    size = getattr(getattr(model, "patch_embed", None), "patch_size", None) or 1
    return int(size[0] if isinstance(size, tuple | list) else size)


def _check_patches(model: Any, architecture: str, side: int | None) -> None:
    """Raise UserError unless the side is a multiple of the model's patches."""
    patch = patch_of(model)
    if side is not None and side % patch:
        near = " or ".join(map(str, multiples(side, patch)))
        raise UserError(
            f"pretrain.frozen.side: {side} found, expected a multiple of {patch} px, the patches of {architecture}, "
            f"such as {near}"
        )


def _wrong_side(architecture: str, side: int | None, why: str) -> UserError:
    return UserError(
        f"pretrain.frozen.side: {side} found, which {architecture} does not accept ({one_line(Exception(why))}); "
        "set another side, or null for its own"
    )


def _unknown(name: str, known: list[str]) -> UserError:
    return UserError(f"network.architecture: '{name}' found, which timm does not have{nearest(name, known)}")
