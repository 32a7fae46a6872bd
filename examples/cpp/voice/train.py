"""Train a voice-activity detector on speech-like sound that is synthesised here.

Syllables of harmonics under moving formants, with hisses between, against coloured
noise, hum, beeps and clicks. Frames of 32 ms give sixteen band energies; a GRU says
for each frame whether somebody speaks. Writes the model, input.wav and its labels.

Run: python train.py [--clips N] [--out DIR]
"""

import argparse
import wave
from pathlib import Path

import numpy as np

import fastlstm as fl

RATE = 16000
FRAME = 512  # 32 ms
# First bins of the bands, 31.25 Hz each, and the end; main.cpp has the same.
EDGES = [3, 5, 7, 9, 12, 15, 19, 23, 28, 34, 41, 49, 59, 71, 85, 104, 128]


def features(sound: np.ndarray) -> np.ndarray:
    """Return (frames, 16): 0.5 log10(1e-3 + energy) of the bands of whole frames."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    energy = np.add.reduceat(power[:, : EDGES[-1]], EDGES[:-1], axis=1)
    return (0.5 * np.log10(1e-3 + energy)).astype(np.float32)


def syllable(rng: np.random.Generator, pitch: float) -> np.ndarray:
    """Return a voiced sound of 120 to 300 ms, perhaps with a hiss before it."""
    t = np.arange(int(rng.uniform(0.12, 0.3) * RATE)) / RATE
    glide = pitch * (1 + rng.uniform(-0.15, 0.15) * t / t[-1])
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    sound = np.zeros_like(t)
    formants = rng.uniform([250, 800, 2200], [800, 2200, 3200])
    for harmonic in range(1, int(3800 / pitch)):
        distance = (harmonic * pitch - formants) / [80, 120, 200]
        level = np.sum(np.array([1, 0.5, 0.3]) / (1 + distance**2))
        sound += level * np.sin(harmonic * phase)
    sound *= np.sqrt(np.sin(np.pi * np.arange(len(t)) / len(t)))
    sound *= 0.2 / np.sqrt(np.mean(sound**2))
    if rng.random() < 0.3:
        hiss = np.diff(rng.normal(scale=0.04, size=int(0.07 * RATE) + 1))
        sound = np.concatenate([hiss, sound])
    return sound


def background(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise that nobody speaks in, of rms 1 before beeps and clicks."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** rng.uniform(0, 0.8)
    noise = np.fft.irfft(spectrum, count)
    noise /= np.sqrt(np.mean(noise**2))
    t = np.arange(count) / RATE
    if rng.random() < 0.5:
        noise += rng.uniform(0, 1.5) * np.sin(2 * np.pi * rng.choice([50, 100]) * t)
    for _ in range(rng.integers(0, 4)):
        begin = int(rng.integers(0, count))
        part = slice(begin, begin + int(rng.uniform(0.01, 0.6) * RATE))
        noise[part] += 2 * np.sin(2 * np.pi * rng.uniform(300, 3000) * t[part])
    return noise


def clip(seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a sound and, for each frame, whether most of it is in an utterance."""
    count = int(seconds * RATE) // FRAME * FRAME
    speech, spoken = np.zeros(count), np.zeros(count, bool)
    position = int(rng.uniform(0, 1.0) * RATE)
    while position < count:
        begin, pitch = position, rng.uniform(90, 250)
        for _ in range(rng.integers(2, 8)):
            sound = rng.uniform(0.5, 1) * syllable(rng, pitch * rng.uniform(0.9, 1.1))
            part = speech[position : position + len(sound)]
            part += sound[: len(part)]
            position += len(sound) + int(rng.uniform(0, 0.06) * RATE)
        spoken[begin:position] = True
        position += int(rng.uniform(0.3, 1.5) * RATE)
    noise = background(count, rng) * 0.1 * 10 ** rng.uniform(-1.3, -0.3)
    sound = rng.uniform(0.4, 1) * (speech + noise)
    return np.clip(sound, -1, 1), spoken.reshape(-1, FRAME).mean(axis=1) > 0.5


def main() -> None:
    """Train, then score on new clips."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=150, help="of 4 s, to train on")
    parser.add_argument("--out", type=Path, default=Path("voice-out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    clips = [clip(4, rng) for _ in range(args.clips)]
    x = np.stack([features(sound) for sound, _ in clips])
    y = np.stack([labels for _, labels in clips]).astype(np.int64)
    bands = len(EDGES) - 1
    model = fl.SequenceModel(
        fl.GRU(bands, 24, batch_first=True, rng=0),
        fl.Linear(24, 2, rng=0),
        return_sequences=True,
    )
    model.fit(
        x,
        y,
        epochs=max(1, 4500 // args.clips),
        batch_size=8,
        optimizer=fl.Adam(),
        schedule=fl.OneCycle(0.01),
        rng=0,
    )
    model.save(args.out / "voice.safetensors")

    sound, labels = clip(20, rng)
    samples = np.rint(sound * 32767).astype("<i2")
    with wave.open(str(args.out / "input.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    np.savetxt(args.out / "labels.txt", labels, fmt="%d")
    accuracy = np.mean(model.predict(features(sound)[None])[0] == labels)
    print(f"accuracy {accuracy:.2%} of the frames of a new clip")


if __name__ == "__main__":
    main()
