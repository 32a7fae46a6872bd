"""Training: a sequence model with fit, evaluate, predict, save and load."""

from fastlstm.training.history import History, StopTraining
from fastlstm.training.many import fit_many
from fastlstm.training.model import SequenceModel
from fastlstm.training.saving import load

__all__ = ["History", "SequenceModel", "StopTraining", "fit_many", "load"]
