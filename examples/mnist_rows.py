"""Read MNIST digits row by row: train, test, save, load, read one.

Expect about 98% after one epoch. Needs the four MNIST files in $FASTLSTM_DATA_DIR/mnist
or the cache, or downloads them (extra "demo").

Run: python examples/mnist_rows.py [--limit N]
"""

import argparse
import tempfile
from pathlib import Path

import fastlstm as fl


def main() -> None:
    """Train for one epoch and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, help="training images to use")
    args = parser.parse_args()

    x, y = fl.datasets.mnist("train")  # (60000, 28 rows, 28 pixels)
    x_test, y_test = fl.datasets.mnist("test")
    x, y = x[: args.limit], y[: args.limit]

    model = fl.SequenceModel(
        fl.LSTM(28, 128, forget_bias=1.0, rng=0), fl.Linear(128, 10, rng=0)
    )
    history = model.fit(
        x, y, batch_size=64, optimizer=fl.Adam(), schedule=fl.OneCycle(0.01), rng=0
    )
    seconds = history.history["seconds"][0]
    accuracy = model.evaluate(x_test, y_test)["accuracy"]
    print(f"test accuracy {accuracy:.2%} after {seconds:.1f} s")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.safetensors"
        model.save(path)
        read = fl.load(path).predict(x_test[:1])[0]
    print(f"the first test digit is a {y_test[0]}, read as {read}")


if __name__ == "__main__":
    main()
