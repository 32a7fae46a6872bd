"""How TensorFlow and JAX do the work; see peers.py.

Neither has an LSTM made for a CPU that is best everywhere, so several ways are written
out, and the worker keeps the fastest for each shape: loops compiled by XLA, with the
input's product before the loop or in it, and TensorFlow's fused BlockLSTM and Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from peers import Arrays, Candidate, Prepare, Problem


def transposed(problem: Problem) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return W_ih^T (I, 4H), W_hh^T (H, 4H) and bias for every layer and direction."""
    params = problem.params()
    return [
        (
            np.ascontiguousarray(params["weight_ih" + suffix].T),
            np.ascontiguousarray(params["weight_hh" + suffix].T),
            params["bias" + suffix],
        )
        for suffix in problem.suffixes
    ]


def named(problem: Problem, output: Any, d_x: Any, d_weights: Any) -> Arrays:
    """Return results by name; d_weights as `transposed` has the weights."""
    arrays = {"output": np.asarray(output)}
    if problem.train:
        arrays["x"] = np.asarray(d_x)
        for suffix, parts in zip(problem.suffixes, d_weights, strict=True):
            d_ih, d_hh, d_bias = map(np.asarray, parts)
            arrays["weight_ih" + suffix] = d_ih.T
            arrays["weight_hh" + suffix] = d_hh.T
            arrays["bias" + suffix] = d_bias
    return arrays


def stack_layers(problem: Problem, layer: Callable[..., Any], concat: Any) -> Any:
    """Return f(x, weights): all layers, where layer(x, weights, reverse) is one."""
    directions = problem.directions

    def forward(x: Any, weights: Any) -> Any:
        for first in range(0, len(weights), directions):
            outputs = [
                layer(x, weights[first + d], reverse=d == 1) for d in range(directions)
            ]
            x = outputs[0] if directions == 1 else concat(outputs)
        return x

    return forward


def jax(threads: int) -> Prepare:
    """Set up JAX: jit of lax.scan and its vjp."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    def cell(gates: Any, c: Any) -> tuple[Any, Any]:
        i, f, g, o = jnp.split(gates, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def scan(step: Any, inputs: Any, hidden: int, reverse: bool) -> Any:
        zeros = jnp.zeros((inputs.shape[1], hidden), jnp.float32)

        def body(state: Any, at: Any) -> Any:
            h, c = step(at, *state)
            return (h, c), h

        return lax.scan(body, (zeros, zeros), inputs, reverse=reverse)[1]

    def hoisted(x: Any, weights: Any, reverse: bool) -> Any:
        w_ih, w_hh, bias = weights

        def step(at: Any, h: Any, c: Any) -> Any:
            return cell(at + h @ w_hh, c)

        # One flat product: XLA takes the one of three axes by a slower way.
        flat = x.reshape(-1, x.shape[2]) @ w_ih + bias
        return scan(step, flat.reshape(*x.shape[:2], -1), len(w_hh), reverse)

    def inside(x: Any, weights: Any, reverse: bool) -> Any:
        w_ih, w_hh, bias = weights
        both = jnp.concatenate([w_ih, w_hh])

        def step(at: Any, h: Any, c: Any) -> Any:
            return cell(jnp.concatenate([at, h], 1) @ both + bias, c)

        return scan(step, x, len(w_hh), reverse)

    def prepare(problem: Problem) -> list[Candidate]:
        x, d_output = map(jnp.asarray, problem.data())
        weights = jax.tree.map(jnp.asarray, transposed(problem))

        def candidate(name: str, layer: Any) -> Candidate:
            forward = stack_layers(problem, layer, lambda y: jnp.concatenate(y, 2))

            def train(x: Any, weights: Any, d_output: Any) -> Any:
                output, back = jax.vjp(forward, x, weights)
                return output, *back(d_output)

            def infer(x: Any, weights: Any, _: Any) -> Any:
                return forward(x, weights), None, None

            step = jax.jit(train if problem.train else infer)
            latest: list[Any] = []

            def run() -> None:
                latest[:] = jax.block_until_ready(step(x, weights, d_output))

            return Candidate(name, run, lambda: named(problem, *latest))

        return [candidate("hoisted", hoisted), candidate("inside", inside)]

    return prepare


def tensorflow(threads: int) -> Prepare:
    """Set up TensorFlow: loops under XLA, BlockLSTM, Keras."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def loop(x: Any, weights: Any, reverse: bool) -> Any:
        w_ih, w_hh, bias = weights
        steps, rows, hidden = x.shape[0], x.shape[1], w_hh.shape[0]
        inputs = tf.reshape(
            tf.reshape(x, (steps * rows, -1)) @ w_ih + bias, (steps, rows, 4 * hidden)
        )
        zeros = tf.zeros((rows, hidden))
        outputs = tf.TensorArray(tf.float32, steps, element_shape=(rows, hidden))

        def body(n: Any, h: Any, c: Any, outputs: Any) -> Any:
            t = steps - 1 - n if reverse else n
            i, f, g, o = tf.split(inputs[t] + h @ w_hh, 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            return n + 1, h, c, outputs.write(t, h)

        *_, outputs = tf.while_loop(
            lambda n, *_: n < steps,
            body,
            (0, zeros, zeros, outputs),
            maximum_iterations=steps,
        )
        return outputs.stack()

    def block(x: Any, weights: Any, reverse: bool) -> Any:
        # Version 2 of this operator has wrong gradients in TensorFlow 2.21.
        w, bias = weights
        steps, rows, hidden = x.shape[0], x.shape[1], w.shape[1] // 4
        zeros = tf.zeros((rows, hidden))
        none = tf.zeros(hidden)
        flip = (lambda a: tf.reverse(a, [0])) if reverse else tf.identity
        result = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.constant(steps, tf.int64),
            x=flip(x),
            cs_prev=zeros,
            h_prev=zeros,
            w=w,
            wci=none,
            wcf=none,
            wco=none,
            b=bias,
            forget_bias=0.0,
            cell_clip=-1.0,
            use_peephole=False,
        )
        return flip(result.h)

    def swapped(a: Any) -> Any:
        # Between gates i, f, c, o and i, c, f, o.
        i, f, c, o = tf.split(a, 4, axis=-1)
        return tf.concat([i, c, f, o], -1)

    def fused(weights: Any) -> Any:
        return [(swapped(tf.concat(w[:2], 0)), swapped(w[2])) for w in weights]

    def split(weights: Any) -> Any:
        parts = []
        for w, bias in weights:
            inputs = w.shape[0] - w.shape[1] // 4
            parts.append((swapped(w[:inputs]), swapped(w[inputs:]), swapped(bias)))
        return parts

    def prepare(problem: Problem) -> list[Candidate]:
        x, d_output = map(tf.constant, problem.data())
        weights = tf.nest.map_structure(tf.constant, transposed(problem))

        def candidate(
            name: str, forward: Any, weights: Any, xla: bool, restore: Any = None
        ) -> Candidate:
            @tf.function(jit_compile=xla, autograph=False)
            def step(x: Any, d_output: Any) -> Any:
                if not problem.train:
                    return forward(x, weights), None, None
                with tf.GradientTape() as tape:
                    tape.watch([x, *tf.nest.flatten(weights)])
                    output = forward(x, weights)
                return output, *tape.gradient(output, [x, weights], d_output)

            latest: list[Any] = []

            def run() -> None:
                latest[:] = step(x, d_output)

            def results() -> Arrays:
                output, d_x, d_weights = latest
                if problem.train and restore is not None:
                    d_weights = restore(d_weights)
                return named(problem, output, d_x, d_weights)

            return Candidate(name, run, results)

        def join(y: Any) -> Any:
            return tf.concat(y, 2)

        looped, blocks = (stack_layers(problem, way, join) for way in (loop, block))
        return [
            candidate("XLA loop", looped, weights, True),
            candidate("BlockLSTM", blocks, fused(weights), False, split),
            keras(problem, candidate),
        ]

    def keras(problem: Problem, candidate: Any) -> Candidate:
        # Keras keeps the time second; its layers see x transposed, as its users do.
        layers = []
        weights = []
        inputs = problem.input_size
        for i, arrays in enumerate(transposed(problem)):
            layer = tf.keras.layers.LSTM(
                problem.hidden_size,
                return_sequences=True,
                go_backwards=i % problem.directions == 1,
            )
            if i % problem.directions == 0 and i > 0:
                inputs = problem.hidden_size * problem.directions
            layer.build((None, None, inputs))
            layer.set_weights(arrays)
            layers.append(layer)
            weights.append(tuple(v.value for v in layer.trainable_variables))

        def one(x: Any, layer: Any, reverse: bool) -> Any:
            y = layer(x)
            return tf.reverse(y, [1]) if reverse else y

        forward = stack_layers(problem, one, lambda y: tf.concat(y, 2))

        def time_major(x: Any, _: Any) -> Any:
            return tf.transpose(forward(tf.transpose(x, (1, 0, 2)), layers), (1, 0, 2))

        return candidate("Keras", time_major, weights, False)

    return prepare
