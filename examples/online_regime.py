"""A sensor whose regime changes: a model that goes on learning, and one that does not.

Predicts the next value of an oscillation. Halfway its frequency and shape change, as a
machine's sound does with another load; both models were trained on the first regime.
Writes online-regime.png.
"""

import argparse
import itertools

import numpy as np

import fastlstm as fl

STEPS = 6000
CHANGE = STEPS // 2


def oscillation(steps, regime, rng):
    """Return values of one regime with a little noise."""
    t = np.arange(steps)
    if regime == 0:
        wave = np.sin(0.20 * t)
    else:
        wave = 0.7 * np.sin(0.31 * t) + 0.4 * np.sin(0.62 * t + 1)
    return (wave + rng.uniform(-0.02, 0.02, steps)).astype(np.float32)


def trained_model(rng):
    """Fit a model that says the next value, on pieces of the first regime."""
    wave = oscillation(64 * 51, 0, rng).reshape(64, 51, 1)
    model = fl.SequenceModel(
        fl.LSTM(1, 24, rng=0),
        fl.Linear(24, 1, rng=0),
        task="regression",
        return_sequences=True,
    )
    model.fit(
        np.ascontiguousarray(wave[:, :-1]),
        np.ascontiguousarray(wave[:, 1:]),
        epochs=100,
        batch_size=16,
        optimizer=fl.Adam(0.01),
        rng=0,
    )
    return model


def main():
    """Run both models over the stream; print and draw their errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="online-regime.png", help="file of the plot")
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    model = trained_model(rng)
    online = model.online(optimizer=fl.Adam(3e-3), tbptt=24)
    fixed = model.stream()
    parts = [oscillation(CHANGE + regime, regime, rng) for regime in (0, 1)]
    wave = np.concatenate(parts)[:, None]

    errors = np.empty((2, STEPS))
    for step, (x, y) in enumerate(itertools.pairwise(wave)):
        errors[0, step] = (fixed.step(x) - y)[0]
        errors[1, step] = (online.predict(x) - y)[0]
        online.learn(x, y)

    def rms(begin, end):
        return np.sqrt(np.mean(errors[:, begin:end] ** 2, axis=1))

    for when, begin, end in (
        ("before the change", CHANGE - 1000, CHANGE),
        ("right after it", CHANGE, CHANGE + 200),
        ("at the end", STEPS - 1000, STEPS),
    ):
        still, learning = rms(begin, end)
        print(f"rms error {when}: fixed {still:.4f}, learning {learning:.4f}")

    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    smooth = np.ones(100) / 100
    for line, name in zip(errors, ("fixed", "learning as it runs"), strict=True):
        axes.plot(np.sqrt(np.convolve(line**2, smooth, "valid")), label=name)
    axes.axvline(CHANGE, color="0.6", linestyle="--")
    axes.set(yscale="log", xlabel="step", ylabel="rms error of 100 steps")
    axes.legend()
    figure.savefig(out, dpi=150)
    print(f"plot: {out}")


if __name__ == "__main__":
    main()
