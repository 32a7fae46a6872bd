"""Predict the next value of a noisy sine, then thirty more by feeding predictions back.

Expect root mean square errors of about 0.01, against 0.05 / sqrt(3) = 0.029 of noise.

Run: python examples/noisy_sine.py [--epochs N]
"""

import argparse

import numpy as np

import fastlstm as fl


def main() -> None:
    """Train on sequences of 60 values, go on from 30."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    x, y = fl.datasets.noisy_sine(6400, length=60, span=10.0, rng=0)
    lstm = fl.LSTM(1, 32, batch_first=True, forget_bias=1.0, rng=0)
    head = fl.Linear(32, 1, rng=0)
    model = fl.SequenceModel(lstm, head, task="regression", return_sequences=True)
    model.fit(
        x,
        y,
        epochs=args.epochs,
        batch_size=32,
        optimizer=fl.Adam(),
        schedule=fl.OneCycle(0.01),
        rng=0,
    )

    x, y = fl.datasets.noisy_sine(1000, length=60, span=10.0, rng=1)
    output, state = lstm(np.ascontiguousarray(x[:, :30]))
    value = head(np.ascontiguousarray(output[:, -1]))
    predictions = [value]
    for _ in range(29):
        output, state = lstm(value[:, None], state)
        value = head(np.ascontiguousarray(output[:, 0]))
        predictions.append(value)
    errors = np.stack(predictions, axis=1) - y[:, 29:59]
    print(f"rms error one ahead {np.sqrt(np.mean(errors[:, 0] ** 2)):.4f}")
    print(f"rms error over 30 ahead {np.sqrt(np.mean(errors**2)):.4f}")


if __name__ == "__main__":
    main()
