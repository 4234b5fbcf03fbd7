"""Weights that timm offers, from the Hugging Face hub's cache or downloaded."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sslpipe.io.errors import UserError, one_line
from sslpipe.nets.weights_packages import WHERE


def timm_weights(architecture: str, config: Any, *, download: bool) -> Mapping[str, Tensor]:
    """Return the weights that timm offers, from the Hugging Face hub's cache or, if `download` is set, downloaded.

    config: timm's `PretrainedCfg` of the architecture. The weights are those for its own side, without a classifier.
    Raises UserError for weights that timm does not have, that are not on this machine or that cannot be read.
    """
    import timm

    if not config.has_weights:
        raise UserError(
            f"network.architecture: timm has no weights for {architecture}; use another architecture, or set "
            f"{WHERE}.weights to a file"
        )
    if "." not in architecture:
        raise UserError(
            f"network.architecture: '{architecture}' found, expected the tag of its weights too, such as "
            f"{architecture}.{config.tag}"
        )
    cached, url = cached_file(config), weights_url(config)
    advice = f"download {url} on another machine and set {WHERE}.weights to the file"
    if not cached and not download:
        raise UserError(
            f"{WHERE}.weights: timm's {architecture} not found on this machine; set {WHERE}.download: true, or {advice}"
        )
    # A file is read without asking the hub. With the classifier, timm refuses files that lack weights.
    place = {"file": cached, "custom_load": False} if cached else {}
    try:
        model: Any = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=place)
    except Exception as error:  # of a damaged file, from the operating system, or one of several HTTP clients
        if cached:
            raise UserError(f"{cached}: not readable as weights of {architecture} ({one_line(error)})") from None
        raise UserError(
            f"{WHERE}.weights: timm's {architecture} cannot be downloaded ({one_line(error)}); {advice}"
        ) from None
    model.reset_classifier(0)
    weights: Mapping[str, Tensor] = model.state_dict()
    return weights


def cached_file(config: Any) -> str | None:
    """Return the path of weights in the Hugging Face hub's cache on this machine; None if they are not there."""
    from huggingface_hub import try_to_load_from_cache

    names = FILES if config.hf_hub_id else ()
    cached = (path for name in names if isinstance(path := try_to_load_from_cache(config.hf_hub_id, name), str))
    return next(cached, None)


def weights_url(config: Any) -> str | None:
    """Return the address of weights."""
    from huggingface_hub import hf_hub_url

    url: str | None = hf_hub_url(config.hf_hub_id, FILES[0]) if config.hf_hub_id else config.url
    return url


FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in a repository of the hub."""
