"""Floating-point operations of the matrix products of a compiled program, read off its HLO."""

import functools
import math
import re
from typing import Any, NamedTuple

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(  # %name = f32[2,3]{1,0} opcode(%operand, ...), attributes
    r"\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][a-z\d\-]*)\((.*?)\)(.*)"
)
_NAME = re.compile(r"%([\w.\-]+)")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|\w+_computations?)=(\{.*?\}|%[\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BATCH = re.compile(r'lhs_batch_dim(?:s=\{|ensions":\[)([\d,"]*)')  # of a dot, of a library's call
_LIBRARIES = ("__cublas$gemm", "__cublas$lt$matmul", "__onednn$matmul")


class _Instruction(NamedTuple):
    shape: tuple[int, ...]  # of the result, or its first part
    opcode: str
    operands: list[str]
    attributes: str


def matrix_operations(compiled: Any) -> float:
    """Floating-point operations of all matrix products in one execution: two for each number that
    is multiplied and added.

    Counts `dot`s and the calls of cuBLAS and oneDNN that stand for them, in fusions, loops and all
    other computations as often as they are called; of a conditional, all branches. Products with a
    vector, such as those of a head with one output, do not count: backends turn some of them into
    multiplications and sums, which look like any others.

    Args:
      compiled: From `jax.jit(...).lower(...).compile()`, for a CPU or an NVIDIA GPU.

    Raises:
      ValueError: if a loop of unknown length holds matrix products.
    """
    computations, entry = _parsed(compiled.as_text())

    @functools.cache
    def total(name: str) -> float:
        computation = computations[name]
        return sum(_own(i, computation) + called(i) for i in computation.values())

    def called(instruction: _Instruction) -> float:
        if instruction.opcode.endswith(("-update", "-done")):  # name again what -start calls
            return 0.0
        names = _NAME.findall(" ".join(_CALLED.findall(instruction.attributes)))
        once = sum(map(total, names))
        if instruction.opcode != "while" or not once:
            return once
        if (trip_count := _TRIP_COUNT.search(instruction.attributes)) is None:
            raise ValueError("matrix products in a loop of unknown length cannot be counted")
        return int(trip_count[1]) * once

    return total(entry)


def _parsed(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """Every computation's instructions by their names, and the name of the first to run."""
    computations, entry = {}, ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            instructions = computations[start[2]] = {}
            entry = start[2] if start[1] else entry
        elif computations and (found := _INSTRUCTION.match(line)):
            name, result, opcode, operands, attributes = found.groups()
            shape = _SHAPE.search(result)
            sizes = tuple(map(int, re.findall(r"\d+", shape[1]))) if shape else ()
            instructions[name] = _Instruction(sizes, opcode, _NAME.findall(operands), attributes)
    return computations, entry


def _own(instruction: _Instruction, computation: dict[str, _Instruction]) -> float:
    """2 b m k n if the instruction is b products of (m, k) and (k, n) matrices, else 0."""
    is_call = instruction.opcode == "custom-call" and any(
        f'custom_call_target="{library}' in instruction.attributes for library in _LIBRARIES
    )
    if instruction.opcode != "dot" and not is_call:
        return 0.0
    left, right = (computation[name].shape for name in instruction.operands[:2])
    if dimensions := _BATCH.search(instruction.attributes):
        b = math.prod(left[int(i)] for i in re.findall(r"\d+", dimensions[1]))
    else:  # a dot that names none has none; oneDNN's are those in front
        b = math.prod(instruction.shape[:-2]) if is_call else 1
    mk, kn, mn = (math.prod(shape) // b for shape in (left, right, instruction.shape))
    k = math.isqrt(mk * kn // mn)
    return 2.0 * b * mk * kn // k if min(mk // k, kn // k, k) > 1 else 0.0
