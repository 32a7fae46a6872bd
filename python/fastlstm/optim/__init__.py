"""Optimizers and gradient clipping: parameters change in place."""

from fastlstm.optim.base import Optimizer
from fastlstm.optim.clipping import clip_grad_norm, clip_scale, grad_norm
from fastlstm.optim.rules import SGD, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_scale",
    "grad_norm",
]
