"""Train a model of a machine's sensors, and make a field record in which it changes.

Three sensors follow the machine's cycle. The model learns to tell the next sample. In
the field record the machine is rebuilt after 3000 steps (other amplitudes, offsets and
waveforms), and four faults hide in it. Writes the model, field.csv and faults.txt.

Run: python train.py [--epochs N] [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np

import fastlstm as fl

CHANNELS = 3
REBUILT = 3000  # the step from which the machine is another
FAULTS = (1500, 2500, 6000, 7500)
STEPS = 9000


def machine(steps: int, rebuilt: bool, rng: np.random.Generator) -> np.ndarray:
    """Return (steps, 3) samples of the machine as it was built, or rebuilt."""
    phase = 2 * np.pi * (np.cumsum(rng.normal(1 / 50, 0.0005, steps)) + rng.random())
    swing = np.sin(phase)
    if rebuilt:
        channels = (1.3 * swing + 0.3, np.cos(phase - 0.6), 0.2 - 0.8 * swing**3)
    else:
        channels = (swing, 0.7 * np.sin(2 * phase + 0.5), swing * np.abs(swing))
    return np.stack(channels, axis=1) + rng.normal(scale=0.02, size=(steps, CHANNELS))


def main() -> None:
    """Train on the machine as built; write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("watch-out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    series = np.stack([machine(201, False, rng) for _ in range(200)])
    series = series.astype(np.float32)
    x, y = np.ascontiguousarray(series[:, :-1]), np.ascontiguousarray(series[:, 1:])
    model = fl.SequenceModel(
        fl.LSTM(CHANNELS, 24, batch_first=True, rng=0),
        fl.Linear(24, CHANNELS, rng=0),
        task="regression",
        return_sequences=True,
    )
    model.fit(
        x,
        y,
        epochs=args.epochs,
        batch_size=16,
        optimizer=fl.Adam(),
        schedule=fl.OneCycle(0.01),
        rng=0,
    )
    model.save(args.out / "watch.safetensors")
    print(f"rms error {model.evaluate(x, y)['rmse']:.4f}, the noise alone 0.02")

    before = machine(REBUILT, False, rng)
    field = np.concatenate([before, machine(STEPS - REBUILT, True, rng)])
    for number, step in enumerate(FAULTS):
        if number % 2 == 0:
            field[step : step + 6, number % CHANNELS] += 1.0  # a knock
        else:
            field[step : step + 30, 1] = field[step, 1]  # a sensor hangs
    np.savetxt(args.out / "field.csv", field, fmt="%.6f", delimiter=",")
    np.savetxt(args.out / "faults.txt", FAULTS, fmt="%d")


if __name__ == "__main__":
    main()
