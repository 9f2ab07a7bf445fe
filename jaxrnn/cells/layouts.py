"""How matrices lie in memory for XLA on CPUs to multiply them fastest: U for h U in a loop, x for Σ xᵀ dy after it."""

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.sharding import ONE_THREAD, on_several_devices
from jaxrnn.types import Array

PAGE = 4096  # bytes; what lies a multiple of it apart shares its places in the first cache
SPACE = 128  # bytes; two lines of the cache
FEW_ROWS = 48  # of h; with more, a product reads a kernel in an order of its own, and all this only costs
NARROW = 64  # columns of a piece; with fewer, the products take longer than the one they stand for
TOGETHER = 32  # columns; a product computes so many at once, and takes as long for a part of them


def for_a_loop(kernel: Array, h: Array) -> Array | tuple[Array, ...]:
    """Return ``kernel [K, N]`` as h U in a loop is fastest on CPUs: as it is, in pieces side by side, or spaced.

    In pieces where several devices run the loop at once, and XLA would share the product among the threads of all: a
    step waits for those longer than it takes.
    Spaced, with columns of zeros after it, where its rows begin at multiples of a page: the lines that a product
    reads together drive each other out of the cache.
    """
    if checks.symbolic(h.size) or not 1 < h.size // h.shape[-1] <= FEW_ROWS or jax.default_backend() != "cpu":
        return kernel
    (height, width), size = kernel.shape, kernel.dtype.itemsize
    columns = ONE_THREAD // height // TOGETHER * TOGETHER
    if on_several_devices(h) and width > columns >= NARROW:
        return tuple(jnp.split(kernel, tuple(range(columns, width, columns)), axis=1))
    return kernel if width * size % PAGE else jnp.pad(kernel, ((0, 0), (0, SPACE // size)))


MANY_ROWS = 512  # those of all steps are so many, and those of one hardly are
IN_CACHE = 2**24  # bytes of dy; of more, the product that reads xᵀ takes longer


def pays_to_turn(x: Array, width: int) -> bool:
    """Whether Σ xᵀ dy, ``x [rows, D]`` and ``dy [rows, width]``, is faster with xᵀ in an array of its own.

    XLA for CPUs has another code for the product that reads x as it lies, and it is the slower one. The copy takes as
    long as it saves where x is no smaller than dy, and more in a loop, for the rows of one step.
    """
    if x.ndim != 2 or checks.symbolic(x.shape[0]) or jax.default_backend() != "cpu":
        return False
    many, features = x.shape
    fits = many * width * x.dtype.itemsize <= IN_CACHE
    return fits and many >= MANY_ROWS and TOGETHER <= features <= width // 2


def turned(x: Array) -> Array:
    """Return xᵀ of ``x [rows, D]`` in an array of its own, which XLA would do without."""
    # The inner barrier keeps what x is made by, such as a look-up of embeddings, out of the loop that copies it.
    return jax.lax.optimization_barrier(jax.lax.optimization_barrier(x).T)
