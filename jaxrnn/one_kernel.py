"""A loop of short steps as one kernel, so that XLA for CPUs spends no time between its operations.

XLA for CPUs runs a program operation by operation, each a kernel of its own, and for a step of one row
the calls take as long as the arithmetic. What is marked as a small call it compiles as one function,
loops included, as it does by itself to loops that touch less than a kilobyte. The mark is an attribute
of the call in StableHLO, given where a program is lowered for CPUs and nowhere else.

XLA does not check what it is asked: an operation that the function cannot hold is an error there, and an
argument that nothing reads ends the process. So only loops of operations known to be safe are marked,
by versions of JAX for which the tests have seen it work, and unread arguments are left out.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import core
from jax.experimental.xla_metadata import set_xla_metadata
from jax.interpreters import partial_eval

SMALL_CALL = {"xla_cpu_small_call": "true", "inlineable": "false"}
TESTED = ((0, 10), (0, 11), (0, 12))  # versions of JAX
LARGEST_KERNEL = 2**17  # elements of a matrix in a product; with larger ones, two cores are faster than one function
LARGEST_SUM = 2**11  # elements; larger ones go to a library, which the function cannot call


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    "abs add add_any and atan ceil clamp convert_element_type copy copy_p cos cosh div eq erf exp exp2 expm1 floor ge "
    "gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not one_minus_square or pow "
    "reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan tanh xor"
)
LAYOUT = _names(
    "broadcast_in_dim concatenate dynamic_slice dynamic_update_slice expand_dims iota pad pvary reshape rev slice "
    "split squeeze transpose"
)
CALLS = _names("checkpoint closed_call custom_jvp_call jit pjit remat2 scan")
SUMS = _names("reduce_max reduce_min reduce_sum")


def one_kernel(f: Callable[..., Any], default: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays that is ``f`` as one kernel, or ``default`` on what is no CPU or too much for one."""

    def by_platform(*arrays: Any) -> Any:
        if jax.__version_info__[:2] not in TESTED:
            return default(*arrays)
        traced, shapes = jax.make_jaxpr(f, return_shape=True)(*arrays)
        if not fits_one_kernel(traced.jaxpr):
            return default(*arrays)
        jaxpr, read = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))

        def once_each(*leaves: Any) -> list[Any]:
            """Return the results, each once: of one that is returned twice, the function would make a copy."""
            results = core.eval_jaxpr(jaxpr, traced.consts, *leaves)
            return list(dict(zip(map(id, jaxpr.outvars), results, strict=True)).values())

        def small_call(*arrays: Any) -> Any:
            leaves = [leaf for leaf, is_read in zip(jax.tree.leaves(arrays), read, strict=True) if is_read]
            distinct = {id(var): var for var in jaxpr.outvars}
            results = dict(zip(distinct, jax.jit(once_each)(*leaves), strict=True))
            # The operation that a marked value comes from has the mark, and so the whole call.
            made = next(name for name, var in distinct.items() if var not in jaxpr.invars)
            results[made] = set_xla_metadata(results[made], **SMALL_CALL)
            return jax.tree.unflatten(jax.tree.structure(shapes), [results[id(var)] for var in jaxpr.outvars])

        return jax.lax.platform_dependent(*arrays, cpu=small_call, default=default)

    return by_platform


def fits_one_kernel(jaxpr: Any) -> bool:
    """Whether XLA for CPUs can compile the operations as one function, and gains by it."""
    return all(map(_fits, jaxpr.eqns))


def _fits(equation: Any) -> bool:
    name, shapes = equation.primitive.name, [var.aval.shape for var in equation.invars]
    if any(0 in shape for shape in shapes):  # XLA computes nothing from an empty array, and so does not read it
        return False
    if name in CALLS:
        inner = [equation.params[key] for key in ("jaxpr", "call_jaxpr") if key in equation.params]
        harmless = equation.params.get("length") != 1 and not equation.params.get("prevent_cse")
        return harmless and bool(inner) and all(fits_one_kernel(getattr(j, "jaxpr", j)) for j in inner)
    if name in SUMS:
        return math.prod(shapes[0]) <= LARGEST_SUM
    if name == "dot_general":
        return _multiplies_a_vector(equation, *shapes)
    return name in ELEMENTWISE | LAYOUT


def _multiplies_a_vector(equation: Any, *shapes: tuple[int, ...]) -> bool:
    """Whether a product is one of a vector and a matrix; others go to a library."""
    contracting, batches = equation.params["dimension_numbers"]
    sizes = [math.prod(shape) for shape in shapes]
    vectors = [size == shape[axes[0]] for size, shape, axes in zip(sizes, shapes, contracting, strict=True)]
    return not any(batches) and any(vectors) and max(sizes) <= LARGEST_KERNEL
