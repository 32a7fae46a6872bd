"""The six orders of 1, 2, 3, fed one at a time, classified by the place of the 3.

The smallest task that needs memory: when the last number is in, the 3 may be two steps
back. Prints the six sequences with what the model says; all six are right.

Run: python examples/permutations.py [--epochs N]
"""

import argparse
from itertools import permutations

import numpy as np

import fastlstm as fl


def main() -> None:
    """Train on all six orders and print what the model answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()

    orders = np.array(list(permutations([1, 2, 3])), np.float32)
    x = orders[:, :, None]  # (6 sequences, 3 steps, 1 number)
    place = np.argmax(orders == 3, axis=1)

    model = fl.SequenceModel(fl.LSTM(1, 8, rng=0), fl.Linear(8, 3, rng=0))
    model.fit(
        x, place, epochs=args.epochs, batch_size=6, optimizer=fl.Adam(0.03), rng=0
    )

    for order, answer, right in zip(orders, model.predict(x), place, strict=True):
        numbers = " ".join(f"{number:.0f}" for number in order)
        print(f"{numbers}: the 3 is at place {answer + 1} (right: {right + 1})")
    print(f"accuracy {model.evaluate(x, place)['accuracy']:.0%}")


if __name__ == "__main__":
    main()
