"""Counting the matrix products of compiled programs whose counts are known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks.operations import matrix_operations

A, B = jnp.ones((5, 7)), jnp.ones((7, 11))
PRODUCT = 2 * 5 * 7 * 11


def count(function, *arguments):
    return matrix_operations(jax.jit(function).lower(*arguments).compile())


def test_a_product_is_two_operations_a_number():
    assert count(jnp.matmul, A, B) == PRODUCT


def test_fused_neighbours_change_nothing():
    assert count(lambda a, b: jnp.tanh(jnp.exp(a) @ b + 1), A, B) == PRODUCT


def test_several_batch_and_contracted_axes():
    x, y = jnp.ones((2, 3, 4, 5, 6)), jnp.ones((2, 3, 6, 5, 7))
    assert count(lambda x, y: jnp.einsum("abijk,abkjl->abil", x, y), x, y) == (
        2 * (2 * 3) * 4 * (5 * 6) * 7
    )


def test_the_same_product_is_counted_once_and_another_twice():
    assert count(lambda a, b: (a @ b, jnp.exp(a @ b)), A, B) == PRODUCT
    assert count(lambda a, b: (a @ b, a[::-1] @ b), A, B) == 2 * PRODUCT


def test_products_with_vectors_do_not_count():
    assert count(lambda a, v: a @ v, A, jnp.ones(7)) == 0
    assert count(lambda a, v: a @ v, A, jnp.ones((7, 1))) == 0
    assert count(jnp.outer, jnp.ones(7), jnp.ones(5)) == 0


def test_loops_count_as_often_as_they_run():
    square = jnp.ones((5, 5))

    def step(a, _):
        return jnp.tanh(a @ square), None

    def nested(a):
        return jax.lax.fori_loop(0, 3, lambda _, a: jax.lax.scan(step, a, length=4)[0] + a, a)

    assert count(nested, square) == 3 * 4 * 2 * 5**3


def test_a_loop_of_unknown_length_is_refused_only_for_its_products():
    def until_small(step):
        return lambda a: jax.lax.while_loop(lambda a: a.sum() > 1, step, a)

    square = jnp.ones((5, 5))
    assert count(until_small(lambda a: a / 2), square) == 0
    with pytest.raises(ValueError, match="loop of unknown length"):
        count(until_small(lambda a: a @ a), square)


WITH_LIBRARIES = """
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[32,11]{1,0})->f32[32,48]{1,0}}

%gemm_fusion (p.0: f32[32,48], p.1: f32[48,40]) -> f32[32,40] {
  %p.0 = f32[32,48]{1,0} parameter(0)
  %p.1 = f32[48,40]{1,0} parameter(1)
  ROOT %dot.1 = f32[32,40]{1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (t: (s32[], f32[2,8,6], f32[2,6,9])) -> (s32[], f32[2,8,6], f32[2,6,9]) {
  %t = (s32[], f32[2,8,6]{2,1,0}, f32[2,6,9]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %a = f32[2,8,6]{2,1,0} get-tuple-element(%t), index=1
  %b = f32[2,6,9]{2,1,0} get-tuple-element(%t), index=2
  %batched = (f32[2,8,9]{2,1,0}, s8[33554432]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"alpha_real":1,\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"],"rhs_contracting_dimensions":["1"],\
"lhs_batch_dimensions":["0"],"rhs_batch_dimensions":["0"]},"epilogue":"BIAS_RELU"}}
  %again = f32[2,8,9]{2,1,0} custom-call(%a, %b), custom_call_target="__onednn$matmul", \
backend_config={"outer_dimension_partitions":[],"onednn_matmul_config":{"transpose_a":false}}
  ROOT %next = (s32[], f32[2,8,6]{2,1,0}, f32[2,6,9]{2,1,0}) tuple(%i, %a, %b)
}

ENTRY %main (x: f32[32,11], w: f32[48,11], v: f32[48,40]) -> f32[32,40] {
  %x = f32[32,11]{1,0} parameter(0)
  %w = f32[48,11]{1,0} parameter(1)
  %v = f32[48,40]{1,0} parameter(2)
  %gemm = (f32[32,48]{1,0}, s8[4194304]{0}) custom-call(%x, %w), \
custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/dot_general"}, \
backend_config={"operation_queue_id":"0","gemm_backend_config":{"alpha_real":1,"beta":0,\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["1"],\
"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]},"epilogue":"DEFAULT"}}
  %h = f32[32,48]{1,0} get-tuple-element(%gemm), index=0
  %noise = f32[32,48]{1,0} custom-call(%h, %w), custom_call_target="__cublas$triangularSolve"
  %loop = (s32[], f32[2,8,6]{2,1,0}, f32[2,6,9]{2,1,0}) while(%init), condition=%cond, \
body=%body, backend_config={"known_trip_count":{"n":"10"}}
  ROOT %out = f32[32,40]{1,0} fusion(%noise, %v), kind=kCustom, calls=%gemm_fusion, \
backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
}

%cond (t.1: (s32[], f32[2,8,6], f32[2,6,9])) -> pred[] {
  %t.1 = (s32[], f32[2,8,6]{2,1,0}, f32[2,6,9]{2,1,0}) parameter(0)
  ROOT %again = pred[] constant(true)
}
"""


def test_the_calls_of_libraries_are_counted():
    program = SimpleNamespace(as_text=lambda: WITH_LIBRARIES)
    in_loop = 10 * 2 * (2 * 2 * 8 * 6 * 9)
    assert matrix_operations(program) == 2 * 32 * 11 * 48 + 2 * 32 * 48 * 40 + in_loop
