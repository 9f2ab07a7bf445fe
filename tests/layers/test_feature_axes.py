"""What follows a convolutional cell: several feature axes, with lengths, masks and resets of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.layers.stepping import step_of

T, B, IMAGE = 3, 2, (2, 3, 4)
LENGTHS, RESETS = jnp.array([3, 1]), jnp.ones((T, B), bool)
LAYERS = {
    "dense": lambda axes: jaxrnn.dense(4, 5, feature_axes=axes),
    "dropout": lambda axes: jaxrnn.dropout(0.5, feature_axes=axes),
    "layer_norm": lambda axes: jaxrnn.layer_norm(4, feature_axes=axes),
    "rms_norm": lambda axes: jaxrnn.rms_norm(4, feature_axes=axes),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_position_is_treated_alike(name, key):
    """As if positions were batch, with lengths and resets of whole images; step by step too."""
    layer, flat = LAYERS[name](3), LAYERS[name](1)
    params, xs = layer.init(key), jax.random.normal(key, (T, B, *IMAGE))
    spoiled = xs.at[1:, 1].set(jnp.nan)
    _, ys = layer.apply(params, spoiled, lengths=LENGTHS, resets=RESETS)
    _, expected = flat.apply(params, xs)
    np.testing.assert_allclose(ys[:, 0], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(ys[0, 1], expected[0, 1], rtol=1e-6)
    assert not ys[1:, 1].any()
    _, y = step_of(layer)(params, (), xs[0], reset=RESETS[0])
    np.testing.assert_allclose(y, expected[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"\Alengths: expected shape \(2, 2, 3\)"):
        flat.apply(params, xs, lengths=LENGTHS)


def test_flatten(key):
    layer, xs = jaxrnn.flatten(3), jax.random.normal(key, (T, B, *IMAGE))
    assert layer.init(key) == ()
    carry, ys = layer.apply((), xs, lengths=LENGTHS, resets=RESETS)
    assert carry == ()
    np.testing.assert_array_equal(ys[:, 0], xs[:, 0].reshape(T, 24))
    assert not ys[1:, 1].any()
    np.testing.assert_array_equal(step_of(layer)((), (), xs[0])[1], xs[0].reshape(B, 24))
    assert layer.apply((), xs[:0])[1].shape == (0, B, 24)
    with pytest.raises(ValueError, match="3 feature axes"):
        layer.apply((), xs[0, 0, 0])


def test_from_images_to_classes_and_to_images(key):
    """A classifier's head and a forecaster's, over sequences of images of several lengths."""
    cell = jaxrnn.conv_vanilla((2, 3, 1), 4, 3)
    classes = jaxrnn.serial(
        jaxrnn.recurrent(cell), jaxrnn.rms_norm(4, feature_axes=3), jaxrnn.flatten(3), jaxrnn.dense(24, 5)
    )
    images = jaxrnn.serial(jaxrnn.recurrent(cell), jaxrnn.dense(4, 1, feature_axes=3))
    xs = jnp.ones((T, B, 2, 3, 1))
    for model, shape in ((classes, (T, B, 5)), (images, xs.shape)):
        assert jax.eval_shape(lambda m=model: m.apply(m.init(key), xs, lengths=LENGTHS))[1].shape == shape
