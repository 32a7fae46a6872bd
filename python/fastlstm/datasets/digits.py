"""Scikit-learn's handwritten digits: a data set that needs no download."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlstm._extras import require

_TEST_PART = 5  # one image in five is for testing
_SPLIT_SEED = 0


def digits(
    split: str | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the 8x8 digits of scikit-learn, an image as a sequence of its rows.

    The 1797 images are those of the test part of UCI's "Optical Recognition of
    Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998).

    Parameters
    ----------
    split : {None, "train", "test"}
        None is all 1797 images in scikit-learn's order. The two parts are shuffled,
        the same in every call and disjoint; a fifth of every class is in the second.

    Returns
    -------
    x : ndarray
        Shape (N, 8, 8), float32, brightness from 0 to 1.
    y : ndarray
        Shape (N,), int64, the digit from 0 to 9.

    Raises
    ------
    ValueError
        If `split` is another.
    ImportError
        If scikit-learn is not installed; it names the extra to install.

    Examples
    --------
    >>> import fastlstm as fl
    >>> x, y = fl.datasets.digits()
    >>> x.shape, y[:5]
    ((1797, 8, 8), array([0, 1, 2, 3, 4]))
    >>> len(fl.datasets.digits("train")[0]), len(fl.datasets.digits("test")[0])
    (1442, 355)
    """
    if split not in (None, "train", "test"):
        raise ValueError(f'split must be None, "train" or "test", got {split!r}')
    sklearn = require("sklearn.datasets", extra="demo", what="the digits data set")
    data = sklearn.load_digits()
    x = np.divide(data.images, 16, dtype=np.float64).astype(np.float32)
    y = data.target.astype(np.int64)
    if split is None:
        return x, y
    chosen = _split(y)[split == "test"]
    return x[chosen], y[chosen]


def _split(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the shuffled rows for training and for testing, every class in both."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    shuffled = labels[order]
    for_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(shuffled == label)
        for_test[places[: len(places) // _TEST_PART]] = True
    return order[~for_test], order[for_test]
