"""The backward pass of autograd in Python, for tensors on a device that is not there: torch's asks it for streams."""

from collections import Counter

import torch
from torch import Tensor


def backward(loss, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """Add the gradients of a scalar to those of its leaves, as Tensor.backward does."""
    assert gradient is None
    assert inputs is None
    assert not create_graph
    root = loss.grad_fn
    waiting = _dependencies(root)
    received = {root: {0: torch.ones_like(loss)}}
    ready = [root]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            given = received.pop(node, {})
            for (child, place), value in zip(node.next_functions, _gradients(node, given), strict=True):
                if child is None:
                    continue
                if value is not None:
                    places = received.setdefault(child, {})
                    places[place] = places[place] + value if place in places else value
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)


def _dependencies(root):
    """Node → number of edges that lead to it from the root."""
    waiting, seen, stack = Counter(), {root}, [root]
    while stack:
        for child, _ in stack.pop().next_functions:
            if child is not None:
                waiting[child] += 1
                if child not in seen:
                    seen.add(child)
                    stack.append(child)
    return waiting


def _gradients(node, given):
    """The gradients that a node passes on, one for each of its next nodes; those of a leaf are added to it."""
    nothing = (None,) * len(node.next_functions)
    if not given:
        return nothing
    if hasattr(node, "variable"):
        _accumulate(node.variable, _fitted(given[0], node.variable))
        return nothing
    values = [
        _fitted(given[place], expected) if place in given else None
        for place, expected in enumerate(node._input_metadata)
    ]
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        values = [
            torch.zeros(expected.shape, dtype=expected.dtype, device=expected.device) if value is None else value
            for value, expected in zip(values, node._input_metadata, strict=True)
        ]
        out = node.apply(*values)
    else:
        out = node(*values)
    return out if isinstance(out, tuple) else (out,)


def _fitted(gradient, expected):
    """A gradient in the shape and type of what it is the gradient of."""
    if gradient.shape != expected.shape:
        gradient = gradient.sum_to_size(expected.shape)
    return gradient.to(expected.dtype)


def _accumulate(leaf: Tensor, gradient):
    assert gradient.device == leaf.device
    if leaf.grad is None:
        leaf.grad = torch.empty_like(leaf).copy_(gradient)  # laid out as the leaf
    else:
        leaf.grad.add_(gradient)
