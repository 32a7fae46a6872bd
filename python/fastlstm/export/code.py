"""The arithmetic of a header, as text that is C99 and C++11 at once.

Every function is made for the sizes of one model: fixed trip counts, no tails. Marks in
the text: ``$fn`` begins a function, ``$p`` a name, ``$noexcept`` and ``$restrict`` are
what the language has of them. header.py puts the pieces together.
"""

from __future__ import annotations

# The constants are those of cpp/src/kernels/math.hpp, where their errors are stated.
MATH = """\
/* Nearest integer to x, |x| < 2^22. What is cheapest, fast-math would cancel. */
$fn float ${p}nearest(float x)$noexcept {
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(_M_FP_FAST)
  return (float)(int)(x < 0.0f ? x - 0.5f : x + 0.5f);
#else
  return (x + 12582912.0f) - 12582912.0f; /* 1.5 * 2^23 */
#endif
}

/* a * 2^n for an integer n, where a and the result are normal numbers. */
$fn float ${p}add_exponent(float a, float n)$noexcept {
  const float magic = n + 12582912.0f; /* holds n in its low bits */
  uint32_t bits, low;
  memcpy(&bits, &a, sizeof bits);
  memcpy(&low, &magic, sizeof low);
  bits += low << 23;
  memcpy(&a, &bits, sizeof a);
  return a;
}

/* expm1(r) = r + r^2 q(r) for r = x - n ln 2, |r| <= ln(2)/2; relative error 2.5e-8. */
$fn float ${p}expm1_part(float x, float n)$noexcept {
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float q = 0.0013926183587713494542f;
  q = q * r + 0.0083631790527225773704f;
  q = q * r + 0.041666554617204574203f;
  q = q * r + 0.16666576989698775683f;
  q = q * r + 0.5f;
  return r * r * q + r;
}

/* Bound of exp's argument: exp(-87) = 1.6e-38 is still a normal number. Volatile, so
   that GCC does not fold it into branches, which would keep it from vectorising. */
$fn float ${p}exp_bound($nothing)$noexcept {
  static const volatile float value = 87.0f;
  return value;
}

/* exp(x), x held within +-bound. A NaN stays a NaN. */
$fn float ${p}exp(float x, float bound)$noexcept {
  x = bound < x ? bound : x;
  x = -bound > x ? -bound : x;
  const float n = ${p}nearest(x * 1.44269504088896341f);
  return ${p}add_exponent(1.0f + ${p}expm1_part(x, n), n);
}

$fn float ${p}sigmoid(float x, float bound)$noexcept {
  return 1.0f / (1.0f + ${p}exp(-x, bound));
}

/* expm1(2x) / (expm1(2x) + 2): no cancellation near 0. */
$fn float ${p}tanh(float x, float bound)$noexcept {
  x = x + x;
  x = bound < x ? bound : x;
  x = -bound > x ? -bound : x;
  const float n = ${p}nearest(x * 1.44269504088896341f);
  const float power = ${p}add_exponent(1.0f, n);
  const float em1 = power * ${p}expm1_part(x, n) + (power - 1.0f);
  return em1 / (em1 + 2.0f);
}

$fn float ${p}relu(float x)$noexcept { return 0.0f > x ? 0.0f : x; }
"""

# Rows of weights that one pass over the sums takes in: their loads and stores are
# shared by eight products, and the compiler still finds registers for everything.
_PASS = 8

# Partial sums of an output of the head: a loop over them becomes one vector.
_LANES = 8


def activation(name: str, value: str) -> str:
    """Return the text of an activation's value.

    Examples
    --------
    >>> activation("linear", "x"), activation("tanh", "x")
    ('x', '${p}tanh(x, bound)')
    """
    if name == "linear":
        return value
    return f"${{p}}{name}({value}{'' if name == 'relu' else ', bound'})"


def product(inputs: int, outputs: int, int8: bool) -> str:
    """Return the function that adds a matrix times a vector to `outputs` sums."""
    element = "int8_t" if int8 else "float"
    sums = "part" if int8 else "sums"
    lines = [
        "/* sums[j] += x[k] * w[k][j], k in order"
        + ("; scale[j] times that. */" if int8 else ". */"),
        f"$fn void ${{p}}add_{inputs}x{outputs}(float* $restrict sums,",
        f"    const float* $restrict x, const {element} (*w)[{outputs}]"
        + (", const float* $restrict scale" if int8 else "")
        + ")$noexcept {",
    ]
    if int8:
        lines.append(f"  float part[{outputs}];")
    whole = inputs - inputs % _PASS
    if int8:
        lines.append(f"  for (int j = 0; j < {outputs}; ++j) part[j] = 0.0f;")
    if whole:
        lines.append(f"  for (int k = 0; k < {whole}; k += {_PASS}) {{")
        lines += _pass(sums, "k + ", 0, _PASS, outputs, "    ")
        lines.append("  }")
    if inputs - whole:
        lines.append("  {")
        lines += _pass(sums, "", whole, inputs - whole, outputs, "    ")
        lines.append("  }")
    if int8:
        lines.append(
            f"  for (int j = 0; j < {outputs}; ++j) sums[j] += scale[j] * part[j];"
        )
    return "\n".join([*lines, "}", ""])


def _pass(
    sums: str, base: str, first: int, rows: int, outputs: int, pad: str
) -> list[str]:
    numbers = range(first, first + rows)
    lines = [
        f"{pad}const float {', '.join(f'x{n} = x[{base}{n}]' for n in half)};"
        for half in (numbers[:4], numbers[4:])
        if half
    ]
    lines.append(f"{pad}for (int j = 0; j < {outputs}; ++j) {{")
    lines.append(f"{pad}  float s = {sums}[j];")
    lines += [f"{pad}  s += x{n} * w[{base}{n}][j];" for n in numbers]
    return [*lines, f"{pad}  {sums}[j] = s;", f"{pad}}}"]


def lstm_cell(hidden: int, cell: str, output: str) -> str:
    """Return the LSTM's step from its sums i, f, g, o."""
    return f"""\
/* c = f * c + i * g;  h = o * {output}(c) */
$fn void ${{p}}cell(const float* $restrict sums, float* $restrict h,
    float* $restrict c)$noexcept {{
  const float bound = ${{p}}exp_bound();
  for (int j = 0; j < {hidden}; ++j) {{
    const float i = {activation("sigmoid", "sums[j]")};
    const float f = {activation("sigmoid", f"sums[{hidden} + j]")};
    const float g = {activation(cell, f"sums[{2 * hidden} + j]")};
    const float o = {activation("sigmoid", f"sums[{3 * hidden} + j]")};
    const float next = f * c[j] + i * g;
    c[j] = next;
    h[j] = o * {activation(output, "next")};
  }}
}}
"""


def gru_cell(hidden: int) -> str:
    """Return the GRU's step from its sums n_x, r, z, n_h."""
    return f"""\
/* n = tanh(n_x + r * n_h);  h = n + z * (h - n) */
$fn void ${{p}}cell(const float* $restrict sums, float* $restrict h)$noexcept {{
  const float bound = ${{p}}exp_bound();
  for (int j = 0; j < {hidden}; ++j) {{
    const float r = {activation("sigmoid", f"sums[{hidden} + j]")};
    const float z = {activation("sigmoid", f"sums[{2 * hidden} + j]")};
    const float n = {activation("tanh", f"sums[j] + r * sums[{3 * hidden} + j]")};
    h[j] = n + z * (h[j] - n);
  }}
}}
"""


def rnn_cell(hidden: int, nonlinearity: str) -> str:
    """Return the vanilla step from its sums."""
    return f"""\
$fn void ${{p}}cell(const float* $restrict sums, float* $restrict h)$noexcept {{
{"" if nonlinearity == "relu" else "  const float bound = ${p}exp_bound();"}
  for (int j = 0; j < {hidden}; ++j) h[j] = {activation(nonlinearity, "sums[j]")};
}}
"""


def head(inputs: int, outputs: int, int8: bool) -> str:
    """Return the dense layer: few outputs, so each is a sum of several lanes."""
    whole, rest = inputs - inputs % _LANES, inputs % _LANES
    loops = []
    if whole:
        loops.append(f"    for (int k = 0; k < {whole}; k += {_LANES}) {{")
        loops.append(f"      for (int j = 0; j < {_LANES}; ++j) {{")
        loops.append("        lane[j] += h[k + j] * w->head[o][k + j];")
        loops += ["      }", "    }"]
    if rest:
        term = f"h[{whole} + j] * w->head[o][{whole} + j]"
        loops.append(f"    for (int j = 0; j < {rest}; ++j) lane[j] += {term};")
    total = "((lane[0] + lane[4]) + (lane[1] + lane[5])) +"
    pairs = "((lane[2] + lane[6]) + (lane[3] + lane[7]))"
    factor = "w->head_scale[o] * " if int8 else ""
    body = "\n".join(loops)
    return f"""\
/* y = bias + head h */
$fn void ${{p}}answer(const struct $Weights* w, const float* $restrict h,
    float* $restrict y)$noexcept {{
  for (int o = 0; o < {outputs}; ++o) {{
    float lane[{_LANES}] = {{0.0f}};
{body}
    y[o] = w->head_bias[o] + {factor}({total}
        {pairs});
  }}
}}
"""


CLASSES = """\
/* The largest of the ${outputs} outputs of a step: its class, the first of equals. */
$fn int ${q}label(const float* y)$noexcept {
  int best = 0;
  for (int o = 1; o < ${outputs}; ++o) best = y[o] > y[best] ? o : best;
  return best;
}

/* The classes' probabilities from the outputs of a step (softmax); p may be y. */
$fn void ${q}probabilities(const float* y, float* p)$noexcept {
  const float bound = ${d}exp_bound(), top = y[${q}label(y)];
  float sum = 0.0f;
  for (int o = 0; o < ${outputs}; ++o) {
    p[o] = ${d}exp(y[o] - top, bound);
    sum += p[o];
  }
  for (int o = 0; o < ${outputs}; ++o) p[o] /= sum;
}
"""
