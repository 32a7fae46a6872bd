"""Train a model of a guitar amplifier on sound that is synthesised here.

The amplifier: a treble boost, a tube-like stage whose two halves of a wave clip
differently, a coupling capacitor that blocks the offset, a dull loudspeaker. Writes the
model, the same model as a header, and input.wav with the amplifier's own target.wav.

Run: python train.py [--hidden 24] [--steps N] [--seconds S] [--out DIR]
"""

import argparse
import wave
from pathlib import Path

import numpy as np

import fastlstm as fl

RATE = 48000
LENGTH = 512  # steps of a training sequence
WARM_UP = 64  # first steps, not counted: the state begins at zero in mid-sound


def one_pole(x: np.ndarray, cutoff: float) -> np.ndarray:
    """Low-pass of 6 dB an octave, by convolution with its decaying response."""
    decay = np.exp(-2 * np.pi * cutoff / RATE)
    count = int(np.ceil(np.log(1e-6) / np.log(decay)))
    response = (1 - decay) * decay ** np.arange(count)
    size = 1 << (len(x) + count).bit_length()
    spectrum = np.fft.rfft(x, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(x)]


def amplifier(x: np.ndarray) -> np.ndarray:
    """Return what the amplifier makes of a sound within +-1."""
    boosted = 3 * x + 6 * (x - one_pole(x, 700))
    stage = np.where(boosted > 0, np.tanh(boosted), 0.7 * np.tanh(boosted / 0.5))
    blocked = stage - one_pole(stage, 60)
    return 0.8 * one_pole(blocked, 5000)


def guitar(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return plucked chords: decaying harmonics, each note a little out of tune."""
    sound = np.zeros(int(seconds * RATE))
    t = np.arange(RATE) / RATE
    decay = np.exp(-0.6 * t)
    begin = 0
    while begin < len(sound):
        root = 82.4 * 2 ** (rng.integers(0, 20) / 12)
        for interval in rng.choice([0, 4, 7, 12, 15], rng.integers(1, 4), False):
            pitch = root * 2 ** (interval / 12) * rng.normal(1, 0.001)
            volume, pick = rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4)
            note = np.zeros_like(t)
            for harmonic in range(1, int(min(10000 / pitch, 25))):
                level = np.sin(np.pi * harmonic * pick) / harmonic
                ringing = np.sin(2 * np.pi * harmonic * pitch * t)
                note += level * decay ** (2 + harmonic) * ringing
            # A pick takes 2 ms, a damping hand 20.
            note *= volume * np.clip(np.minimum(t / 0.002, (1 - t) / 0.02), 0, 1)
            part = sound[begin : begin + len(note)]
            part += note[: len(part)]
        begin += int(rng.uniform(0.15, 0.6) * RATE)
    sound += rng.normal(scale=1e-4, size=sound.shape)
    return np.clip(sound, -1, 1)


def write_wav(path: Path, sound: np.ndarray) -> None:
    """Write one channel of 16 bits."""
    samples = np.clip(np.rint(sound * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


def main() -> None:
    """Train for a fixed number of steps and report the error on new sound."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--steps", type=int, default=900, help="of training")
    parser.add_argument(
        "--seconds", type=float, default=20, help="of sound to train on"
    )
    parser.add_argument("--out", type=Path, default=Path("amplifier-out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    sound = guitar(args.seconds, rng)
    count = len(sound) // LENGTH
    shape = (count, LENGTH, 1)
    x = sound[: count * LENGTH].reshape(shape).astype(np.float32)
    y = amplifier(sound)[: count * LENGTH].reshape(shape).astype(np.float32)
    weight = np.ones((count, LENGTH), np.float32)
    weight[:, :WARM_UP] = 0

    model = fl.SequenceModel(
        fl.LSTM(1, args.hidden, batch_first=True, rng=0),
        fl.Linear(args.hidden, 1, rng=0),
        task="regression",
        return_sequences=True,
    )
    batch = 32
    model.fit(
        x,
        y,
        epochs=max(1, round(args.steps * batch / count)),
        batch_size=batch,
        optimizer=fl.Adam(),
        schedule=fl.OneCycle(0.01),
        sample_weight=weight,
        rng=0,
    )
    name = f"amp{args.hidden}"
    model.save(args.out / f"{name}.safetensors")
    fl.export.to_header(model, args.out / "amp.hpp")

    sound = guitar(args.seconds / 4, rng)
    target = amplifier(sound)
    write_wav(args.out / "input.wav", sound)
    write_wav(args.out / "target.wav", target)
    answer = model.predict(sound.astype(np.float32)[None, :, None])[0, :, 0]
    error = np.sum((answer - target) ** 2) / np.sum(target**2)
    print(f"error to signal {error:.2%} on new sound")


if __name__ == "__main__":
    main()
