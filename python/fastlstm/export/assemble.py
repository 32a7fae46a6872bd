"""The text of a header: what is declared, stored and offered, in C or in C++.

The two differ in names, and C++ adds a namespace and a class; the arithmetic is the
same text (code.py). Knows no file; called by header.py.
"""

from __future__ import annotations

from string import Template
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm.export import code, frames
from fastlstm.export.literals import initializer
from fastlstm.export.weights import Matrix, Weights
from fastlstm.nn import GRU, LSTM, RNN
from fastlstm.runtime import __version__
from fastlstm.training import SequenceModel

Array = npt.NDArray[Any]


class Sample(NamedTuple):
    """Input and output of the self-test: (T, I) or (T,) integers, and (T, O)."""

    x: Array
    y: Array


class Sizes(NamedTuple):
    """Bytes that a header takes, and its work.

    Attributes
    ----------
    weights, state, stack : int
        Constant data, one stream's state, scratch of one step.
    multiply_adds : int
        Of the matrix products of one step.
    """

    weights: int
    state: int
    stack: int
    multiply_adds: int


def fields_of(weights: Weights) -> list[tuple[str, Array]]:
    """Return the members of the struct of weights, wide elements first."""
    fields: list[tuple[str, Array]] = []

    def add(name: str, matrix: Matrix) -> None:
        fields.append((name, matrix.values))
        if matrix.scales is not None:
            fields.append((name + "_scale", matrix.scales))

    for part, rows in weights.initial.items():
        fields.append((f"initial_{part}", rows))
    if weights.table is not None:
        add("table", weights.table)
    for index, layer in enumerate(weights.layers):
        fields.append((f"l{index}_bias", layer.bias))
        add(f"l{index}_x", layer.from_x)
        add(f"l{index}_h", layer.from_h)
    fields.append(("head_bias", weights.head_bias))
    add("head", weights.head)
    return sorted(fields, key=lambda field: -field[1].dtype.itemsize)


def sizes_of(model: SequenceModel, weights: Weights) -> Sizes:
    """Count bytes and work."""
    stored = sum(array.nbytes for _, array in fields_of(weights))
    states = 2 if isinstance(model.recurrent, LSTM) else 1
    hidden, sums = model.recurrent.hidden_size, len(weights.layers[0].bias)
    int8 = weights.head.scales is not None
    embedded = model.recurrent.input_size if int8 and weights.table is not None else 0
    matrices = [m for layer in weights.layers for m in (layer.from_x, layer.from_h)]
    return Sizes(
        weights=stored + -stored % 4,
        state=4 * states * len(weights.layers) * hidden,
        stack=4 * (sums * (2 if int8 else 1) + embedded),
        multiply_adds=sum(m.values.size for m in [*matrices, weights.head]),
    )


def header_text(
    model: SequenceModel, weights: Weights, sample: Sample, name: str, cpp: bool
) -> str:
    """Return the whole header."""
    marks = _marks(model, name, cpp)
    sizes = sizes_of(model, weights)
    outputs, features = weights.head.values.shape
    arithmetic = [code.MATH, *_products(weights), _cell(model)]
    int8 = weights.head.scales is not None
    arithmetic.append(code.head(features, outputs, int8))
    classes = [code.CLASSES] if model.task == "classification" else []
    template = frames.CPP if cpp else frames.C
    parts = {
        "about": _about(model, weights, sizes, name, cpp),
        "state": _state(model),
        "weights": _weights(weights, cpp),
        "arithmetic": "\n".join(
            [*arithmetic, _reset(weights), _step(model, weights), _PROCESS]
        ),
        "offered": "\n".join([*classes, _self_test(model, sample)]),
    }
    filled = Template(template).safe_substitute(parts)
    return Template(filled).substitute(marks)


def _marks(model: SequenceModel, name: str, cpp: bool) -> dict[str, Any]:
    upper = name.upper()
    embedded = model.embedding is not None
    marks: dict[str, Any] = {
        "name": name,
        "NAME": upper,
        "restrict": f"{upper}_RESTRICT",
        "inputs": model.recurrent.input_size,
        "outputs": model.head.out_features,
        "hidden": model.recurrent.hidden_size,
        "layers": model.recurrent.num_layers,
        "step_x": "int32_t x" if embedded else "const float* x",
        "block_x": "const int32_t* x" if embedded else "const float* x",
        "x_at": "x[t]" if embedded else f"x + t * {model.recurrent.input_size}",
    }
    if cpp:
        return marks | {
            **{"fn": "inline", "noexcept": " noexcept", "nothing": ""},
            **{"p": "", "q": "", "d": "detail::", "Weights": "Weights"},
            **{"State": "State", "constants": "static constexpr"},
            "stored": "weights()",
        }
    return marks | {
        **{"fn": "static inline", "noexcept": "", "nothing": "void"},
        **{"p": f"{name}_", "q": f"{name}_", "d": f"{name}_"},
        **{"Weights": f"{name}_weights", "State": f"{name}_state"},
        **{"constants": "static const", "stored": f"&{name}_stored"},
    }


def _about(
    model: SequenceModel, weights: Weights, sizes: Sizes, name: str, cpp: bool
) -> str:
    recurrent, head = model.recurrent, model.head
    kind = "int8 weights" if weights.head.scales is not None else "float32 weights"
    x = (
        "an integer"
        if model.embedding is not None
        else f"{recurrent.input_size} floats"
    )
    use = frames.USE_CPP if cpp else frames.USE_C
    layers = f"{type(recurrent).__name__}, {recurrent.num_layers} x "
    layers += f"{recurrent.hidden_size} units, {head.out_features} outputs"
    if model.embedding is not None:
        layers = f"table of {model.embedding.num_embeddings} vectors, " + layers
    when = (
        "of every step"
        if model.return_sequences
        else "after the last step of a sequence; give no y before it"
    )
    return f"""\
/* {name}: {layers}, {kind}.
   Made by fastlstm {__version__} with `fastlstm export`; do not edit.

   Constant data {sizes.weights:,} bytes, state {sizes.state:,} bytes a stream, about
   {sizes.stack + 64:,} bytes of stack; {sizes.multiply_adds:,} multiply-adds a step.
   No heap, no locks, nothing of the standard library but memcpy and memset.
   It is fast where the compiler vectorises: -O3, and the flags of the CPU at hand.

{use}
   x holds {x}; y gets {head.out_features} values, and may be null where the answer is
   not needed. The model was trained to answer with the y {when}.
*/"""


def _state(model: SequenceModel) -> str:
    shape = f"[{model.recurrent.num_layers}][{model.recurrent.hidden_size}]"
    cell = f"\n  float c{shape};" if isinstance(model.recurrent, LSTM) else ""
    return f"float h{shape};{cell}"


def _weights(weights: Weights, cpp: bool) -> str:
    fields = fields_of(weights)
    members = [
        f"  {'int8_t' if array.dtype == np.int8 else 'float'} {name}"
        f"{''.join(f'[{size}]' for size in array.shape)};"
        for name, array in fields
    ]
    values = [f"  /* {name} */\n  {initializer(array, 2)}" for name, array in fields]
    begin, end = frames.CPP_STORED if cpp else frames.C_STORED
    return "\n".join(
        ["struct $Weights {", *members, "};", "", begin, ",\n".join(values), end]
    )


def _products(weights: Weights) -> list[str]:
    """Return each shape's product once."""
    texts = {}
    for layer in weights.layers:
        for matrix in (layer.from_x, layer.from_h):
            rows, columns = matrix.values.shape
            int8 = matrix.scales is not None
            texts[rows, columns] = code.product(rows, columns, int8)
    return list(texts.values())


def _cell(model: SequenceModel) -> str:
    recurrent = model.recurrent
    config = recurrent.config()
    if isinstance(recurrent, LSTM):
        activations = config["cell_activation"], config["output_activation"]
        return code.lstm_cell(recurrent.hidden_size, *activations)
    if isinstance(recurrent, GRU):
        return code.gru_cell(recurrent.hidden_size)
    assert isinstance(recurrent, RNN)
    return code.rnn_cell(recurrent.hidden_size, config["nonlinearity"])


def _reset(weights: Weights) -> str:
    lines = [
        f"  memcpy(state->{part}, ($stored)->initial_{part}, sizeof state->{part});"
        for part in weights.initial
    ]
    return "\n".join(
        [
            "/* The state before the first step of a sequence. */",
            "$fn void ${p}reset($State* state)$noexcept {",
            *(lines or ["  memset(state, 0, sizeof *state);"]),
            "}",
            "",
        ]
    )


def _step(model: SequenceModel, weights: Weights) -> str:
    hidden = model.recurrent.hidden_size
    sums = len(weights.layers[0].bias)
    # The GRU's h feeds the sums from r on.
    second = f"sums + {hidden}" if isinstance(model.recurrent, GRU) else "sums"
    lines = [f"  float sums[{sums}];"]
    x = "x"
    if model.embedding is not None:
        lines += _look_up(weights.table, model.recurrent.input_size)
        x = "vector"
    for index, layer in enumerate(weights.layers):
        lines.append(f"  for (int j = 0; j < {sums}; ++j) {{")
        lines.append(f"    sums[j] = w->l{index}_bias[j];")
        lines.append("  }")
        h = f"state->h[{index}]"
        for start, vector, matrix, name in (
            ("sums", x, layer.from_x, f"l{index}_x"),
            (second, h, layer.from_h, f"l{index}_h"),
        ):
            rows, columns = matrix.values.shape
            scale = "" if matrix.scales is None else f", w->{name}_scale"
            call = f"${{p}}add_{rows}x{columns}({start}, {vector}, w->{name}{scale});"
            lines.append("  " + call)
        c = f", state->c[{index}]" if isinstance(model.recurrent, LSTM) else ""
        lines.append(f"  ${{p}}cell(sums, {h}{c});")
        x = h
    lines.append(f"  if (y) ${{p}}answer(w, {x}, y);")
    return "\n".join([_STEP_BEGIN, *lines, "}", ""])


_STEP_BEGIN = """\
$fn void ${p}step($State* state, $step_x, float* y)$noexcept {
  const struct $Weights* w = $stored;"""


def _look_up(table: Matrix | None, size: int) -> list[str]:
    """Return the lines that find the vector of an index; one out of range is held."""
    assert table is not None
    last = len(table.values) - 1
    lines = [f"  const int32_t row = x < 0 ? 0 : x > {last} ? {last} : x;"]
    if table.scales is None:
        return [*lines, "  const float* vector = w->table[row];"]
    return [
        *lines,
        f"  float vector[{size}];",
        f"  for (int j = 0; j < {size}; ++j) {{",
        "    vector[j] = w->table_scale[row] * w->table[row][j];",
        "  }",
    ]


_PROCESS = """\
/* n steps: x holds n inputs one after the other, y gets n outputs; y may be x if
   both are of one size. */
$fn void ${p}process($State* state, $block_x, float* y, int n)$noexcept {
  for (int t = 0; t < n; ++t) ${p}step(state, $x_at, y + t * $outputs);
}
"""


def _self_test(model: SequenceModel, sample: Sample) -> str:
    element = "int32_t" if model.embedding is not None else "float"
    steps = len(sample.x)
    shape = f"[{steps}]" + ("" if model.embedding is not None else "[$inputs]")
    return f"""\
/* Largest error of {steps} answers of the library; relative where they pass 1. */
$fn float ${{q}}self_test($nothing)$noexcept {{
  $constants {element} x{shape} = {initializer(sample.x, 4)};
  $constants float expected[{steps}][$outputs] = {initializer(sample.y, 4)};
  $State state;
  float y[$outputs];
  float worst = 0.0f;
  ${{d}}reset(&state);
  for (int t = 0; t < {steps}; ++t) {{
    ${{d}}step(&state, x[t], y);
    for (int o = 0; o < $outputs; ++o) {{
      const float wanted = expected[t][o];
      const float size = wanted < 0.0f ? -wanted : wanted;
      float error = y[o] < wanted ? wanted - y[o] : y[o] - wanted;
      error /= size > 1.0f ? size : 1.0f;
      if (!(error <= 1e30f)) return 1e30f; /* not a number */
      worst = error > worst ? error : worst;
    }}
  }}
  return worst;
}}
"""
