"""Wrong arguments of the models."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn import models
from tests import wrong
from tests.layers.stepping import step_of
from tests.layers.test_errors import RESET
from tests.layers.test_errors_composition import a_layer
from tests.test_errors_beam import END_TOKENS, SEARCHES, SEARCHING
from tests.wrong import FLAGS, HS, KEY, LENGTHS, STEPS, XS, B, Bad, D, Function, H, T, V, choices, params_of

GRU = jaxrnn.recurrent(jaxrnn.gru(D, H))
BOTH = jaxrnn.bidirectional(GRU, jaxrnn.recurrent(jaxrnn.gru(D, H), reverse=True))
DTYPES = [*wrong.dtypes("dtype"), *wrong.NO_DTYPE]
ATTENTION = jaxrnn.attention.additive(H, 2 * H, 2)
CLASSIFIER = models.classifier(GRU, H, 2, pooling="attention")
LANGUAGE_MODEL = models.language_model(V, D, GRU)
FORECASTER = models.forecaster(jaxrnn.recurrent(jaxrnn.gru(D, H)), H, 2, D, method="autoregressive")
MODEL = models.encoder_decoder(BOTH, jaxrnn.gru(D, H), ATTENTION, V, D)
TOKENS, START, TARGETS = np.ones((T, B), np.int32), np.ones(B, np.int32), np.ones((2, B, D), np.float32)


def few(*rows: Bad) -> list[Bad]:
    """Return the first row about each argument: what a part of the model checks is tested with the part."""
    first = {}
    for row in rows:
        first.setdefault(row.argument, row)
    return list(first.values())


def weights_of(params, xs, lengths, mask, key=None):
    assert CLASSIFIER.weights is not None
    return CLASSIFIER.weights(params, xs, lengths=lengths, mask=mask, key=key)


def forced(params, xs, targets, lengths, mask, key=None):
    assert FORECASTER.forced is not None
    return FORECASTER.forced(params, xs, targets, lengths=lengths, mask=mask, key=key)


def parameters(record, kind: str) -> list[Bad]:
    return [
        Bad("params", None, TypeError, kind, "NoneType"),
        Bad("params", tuple(params_of(record)), TypeError, kind, "tuple"),
        Bad("params", params_of(GRU), TypeError, kind, "GRUParams"),
    ]


OF_CLASSIFIER = {"params": params_of(CLASSIFIER), "xs": XS, "lengths": LENGTHS, "mask": FLAGS}
OF_SEQUENCES = few(*wrong.FEATURES, *(row for row in wrong.AROUND if row.argument != "resets"), *wrong.KEYS)
CLASSIFIED = [
    *parameters(CLASSIFIER, "ClassifierParams of classifier(…, 4, 2)"),
    Bad("params", params_of(CLASSIFIER)._replace(head=()), TypeError, "DenseParams", "tuple", "params.head"),
    Bad("params", params_of(CLASSIFIER)._replace(pooling=()), TypeError, "AttentionParams", "tuple"),
    Bad("params", params_of(CLASSIFIER)._replace(encoder=()), TypeError, "GRUParams", "tuple"),
    *OF_SEQUENCES,
]
LANGUAGE_PARAMS = params_of(LANGUAGE_MODEL)
OF_LANGUAGE_MODEL = [
    *parameters(LANGUAGE_MODEL, "LanguageModelParams of language_model(7, 3, …)"),
    Bad("params", LANGUAGE_PARAMS._replace(embedding=None), TypeError, "EmbeddingParams", "None", "params.embedding"),
    Bad("params", LANGUAGE_PARAMS._replace(output=()), TypeError, "DenseParams", "()", "params.output"),
    Bad("params", LANGUAGE_PARAMS._replace(projection=None), TypeError, "DenseParams", "NoneType"),
    Bad("params", LANGUAGE_PARAMS._replace(layer=()), TypeError, "GRUParams", "tuple"),
]
STATE = LANGUAGE_MODEL.initial_carry(LANGUAGE_PARAMS, (B,))
FORECAST = [
    *parameters(FORECASTER, "ForecasterParams of forecaster(…, 4, 2, 3)"),
    Bad("params", params_of(FORECASTER)._replace(head=()), TypeError, "DenseParams", "tuple"),
    *OF_SEQUENCES,
]
OF_MODEL = [
    *parameters(MODEL, "EncoderDecoderParams of encoder_decoder(…, 7, 3)"),
    Bad("params", params_of(MODEL)._replace(bridge=()), TypeError, "encoder_decoder(…, 7, 3)", "()", "params.bridge"),
    Bad("params", params_of(MODEL)._replace(decoder=()), TypeError, "encoder_decoder(…, 7, 3)", "()", "params.decoder"),
    Bad("params", params_of(MODEL)._replace(encoder=()), TypeError, "Directions", "()"),
    Bad("source", None, TypeError, "an array [time, *batch, features]", "NoneType", "xs"),
    Bad("source", np.ones((T, B, 9), np.float32), ValueError, "3 features", "(5, 2, 9)", "xs"),
]
SOURCE_LENGTHS = [
    Bad("source_lengths", np.array([1.0, 2.0], np.float32), TypeError, "integers", "float32"),
    Bad("source_lengths", 3, ValueError, "(2,) = [*batch]", "()"),
    Bad("source_lengths", "12", TypeError, "an array", "str"),
]
TARGET_INS = [
    Bad("target_in", None, TypeError, "an array", "NoneType"),
    Bad("target_in", FLAGS, TypeError, "integer tokens [time, *batch]", "bool"),
    Bad("target_in", XS, TypeError, "integer tokens [time, *batch]", "float32"),
    Bad("target_in", START[0], ValueError, "[time, *batch]", "()"),
    Bad("target_lengths", LENGTHS[:1], ValueError, "(2,) = [*batch]", "(1,)"),
    Bad("target_lengths", np.ones(B, np.float32), TypeError, "integers", "float32"),
]
STARTS = [
    Bad("start", None, TypeError, "an array", "NoneType"),
    Bad("start", HS[:, 0], TypeError, "integer tokens [*batch]", "float32"),
]
FORCING = {
    "params": params_of(MODEL),
    "source": XS,
    "target_in": TOKENS,
    "source_lengths": LENGTHS,
    "target_lengths": LENGTHS,
    "key": KEY,
}
DECODING = {"params": params_of(MODEL), "source": XS, "start": START, "length": 3, "end_token": 0}


TABLE = {
    "classifier": Function(
        models.classifier,
        {"encoder": GRU, "features": H, "classes": 2},
        [
            *a_layer("encoder"),
            *wrong.sizes("features", "classes"),
            *choices("pooling", "'last', 'ends', 'mean', 'max', 'attention'", "sum", None, True, error=ValueError),
            Bad("attention_size", 3, ValueError, "None for pooling 'last'", "3"),
            *(row for row in wrong.sizes("attention_size") if row.value is not None),
            *wrong.rates("dropout"),
            *DTYPES,
        ],
    ),
    "classifier of both directions": Function(
        lambda pooling, features=2 * H: models.classifier(BOTH, features, 2, pooling=pooling),
        {"pooling": "ends"},
        [
            Bad("pooling", "last", ValueError, '"ends", "mean", "max" or "attention"', '"last"'),
            Bad("features", 7, ValueError, 'an even number of features for "ends"', "7", "pooling"),
        ],
    ),
    "classifier of outputs of another size": Function(
        lambda features: models.classifier(GRU, features, 2).apply(params_of(models.classifier(GRU, features, 2)), XS),
        {"features": H},
        [Bad("features", 5, ValueError, "5 features on the last axis", "(5, 2, 4)", "encoder: its output")],
    ),
    "Classifier.init": Function(CLASSIFIER.init, {"key": KEY}, wrong.INIT_KEYS),
    "Classifier.apply": Function(CLASSIFIER.apply, OF_CLASSIFIER, CLASSIFIED),
    "Classifier.weights": Function(weights_of, OF_CLASSIFIER, few(*CLASSIFIED)),
    "language_model": Function(
        models.language_model,
        {"vocabulary": V, "size": D, "layer": GRU},
        [
            *wrong.sizes("vocabulary", "size"),
            *a_layer("layer"),
            Bad("layer", jaxrnn.recurrent(jaxrnn.gru(5, 4)), ValueError, "5 features", "(1, 3)", "xs"),
            *choices("tied", "True or False", None, 1, "no"),
            *wrong.rates("dropout"),
            *(row for row in wrong.initializers("table_init", "kernel_init") if row.value is not None),
            *DTYPES,
        ],
    ),
    "language_model.init": Function(LANGUAGE_MODEL.init, {"key": KEY}, wrong.INIT_KEYS),
    "language_model.initial_carry": Function(
        LANGUAGE_MODEL.initial_carry,
        {"params": LANGUAGE_PARAMS, "batch_shape": (B,)},
        [*OF_LANGUAGE_MODEL[:5], *few(*wrong.BATCH)],
    ),
    "language_model.apply": Function(
        LANGUAGE_MODEL.apply,
        {"params": LANGUAGE_PARAMS, "xs": TOKENS, "carry": STATE, **STEPS, "key": KEY},
        [
            *OF_LANGUAGE_MODEL,
            Bad("xs", XS[..., 0], TypeError, "integer tokens", "float32"),
            Bad("carry", HS, TypeError, "one entry per layer", ""),
            *few(*wrong.AROUND, *wrong.KEYS),
        ],
        unchecked=("options",),  # rows above
    ),
    "language_model.step": Function(
        step_of(LANGUAGE_MODEL),
        {"params": LANGUAGE_PARAMS, "carry": STATE, "x": TOKENS[0], "reset": FLAGS[0]},
        [
            *OF_LANGUAGE_MODEL,
            Bad("x", XS[0, :, 0], TypeError, "integer tokens", "float32"),
            Bad("carry", HS, TypeError, "one entry per layer", ""),
            *few(*RESET, *wrong.KEYS),
        ],
        unchecked=("options",),
    ),
    "forecaster": Function(
        models.forecaster,
        {"layer": GRU, "features": H, "horizon": 2, "targets": D},
        [
            *a_layer("layer"),
            *wrong.sizes("features", "horizon", "targets"),
            *choices("method", "'direct', 'autoregressive'", "recursive", None, error=ValueError),
            *DTYPES,
        ],
    ),
    "forecaster that steps": Function(
        lambda layer: models.forecaster(layer, H, 2, D, method="autoregressive"),
        {"layer": GRU},
        [Bad("layer", BOTH, ValueError, 'a step for "autoregressive"', "the future")],
    ),
    "forecaster from outputs of another size": Function(
        lambda features: models.forecaster(GRU, features, 2).apply(params_of(models.forecaster(GRU, features, 2)), XS),
        {"features": H},
        [Bad("features", 5, ValueError, "5 features on the last axis", "(5, 2, 4)", "layer: its output")],
    ),
    "forecaster that feeds another size back": Function(
        lambda targets: models.forecaster(GRU, H, 2, targets, method="autoregressive").apply(
            params_of(models.forecaster(GRU, H, 2, targets, method="autoregressive")), XS
        ),
        {"targets": D},
        [Bad("targets", 1, ValueError, "3, those of xs that are fed back", "1")],
    ),
    "Forecaster.init": Function(FORECASTER.init, {"key": KEY}, wrong.INIT_KEYS),
    "Forecaster.apply": Function(
        FORECASTER.apply, {"params": params_of(FORECASTER), "xs": XS, "lengths": LENGTHS, "mask": FLAGS}, FORECAST
    ),
    "Forecaster.forced": Function(
        forced,
        {"params": params_of(FORECASTER), "xs": XS, "targets": TARGETS, "lengths": LENGTHS, "mask": FLAGS},
        [
            *few(*FORECAST),
            Bad("targets", TARGETS[:1], ValueError, "(2, 2, 3) for forecaster(…, 4, 2, 3)", "(1, 2, 3)"),
            Bad("targets", TARGETS.astype(np.float16), TypeError, "float32 for forecaster", "float16"),
            Bad("targets", None, TypeError, "an array", "NoneType"),
        ],
    ),
    "encoder_decoder": Function(
        models.encoder_decoder,
        {"encoder": BOTH, "cell": jaxrnn.gru(D, H), "attention": ATTENTION, "vocabulary": V, "size": D},
        [
            *a_layer("encoder"),
            *wrong.A_CELL,
            Bad("attention", None, TypeError, "an Attention", "NoneType"),
            Bad("attention", jaxrnn.attention.dot(3), ValueError, "queries of 4 features", "3"),
            *wrong.sizes("vocabulary", "size"),
            *choices("bridge", "True or False", None, 1),
            Bad("encoder", jaxrnn.dense(D, 2 * H), ValueError, "False for an encoder without a", "True", "bridge"),
            *(row for row in wrong.sizes("readout") if row.value is not None),
            *wrong.rates("dropout"),
            *DTYPES,
        ],
    ),
    "EncoderDecoder.init": Function(MODEL.init, {"key": KEY}, wrong.INIT_KEYS),
    "EncoderDecoder.encode": Function(
        MODEL.encode,
        {"params": params_of(MODEL), "source": XS, "source_lengths": LENGTHS, "key": KEY},
        [*OF_MODEL, *(row._replace(named="lengths") for row in SOURCE_LENGTHS), *few(*wrong.KEYS)],
    ),
    "EncoderDecoder.apply": Function(
        MODEL.apply, FORCING, [*OF_MODEL, *SOURCE_LENGTHS, *TARGET_INS, *few(*wrong.KEYS)]
    ),
    "EncoderDecoder.align": Function(MODEL.align, FORCING, few(*OF_MODEL, *SOURCE_LENGTHS, *TARGET_INS, *wrong.KEYS)),
    "EncoderDecoder.apply without lengths": Function(
        lambda target_in: MODEL.apply(params_of(MODEL), XS, target_in),
        {"target_in": TOKENS},
        [Bad("target_in", TOKENS[:, :1], ValueError, "batch axes (2,), those of source", "(5, 1)")],
    ),
    "EncoderDecoder.greedy": Function(
        MODEL.greedy,
        {**DECODING, "source_lengths": LENGTHS},
        [
            *OF_MODEL,
            *SOURCE_LENGTHS,
            *STARTS,
            *END_TOKENS[-2:],
            Bad("length", -1, ValueError, "at least 0", "-1"),
            Bad("length", 2.0, TypeError, "an int", "2.0"),
        ],
    ),
    "EncoderDecoder.beam_search": Function(
        MODEL.beam_search,
        {**DECODING, **SEARCHING, "source_lengths": LENGTHS},
        [*OF_MODEL, *SOURCE_LENGTHS, *STARTS, *few(*SEARCHES)],
    ),
    "EncoderDecoder.beam_search without lengths": Function(
        lambda start: MODEL.beam_search(params_of(MODEL), XS, start, beams=2, length=3, end_token=0),
        {"start": START},
        [Bad("start", START[:1], ValueError, "batch axes (2,), those of source", "(1,)")],
    ),
}


@pytest.mark.parametrize("function", wrong.cases(TABLE))
def test_wrong_arguments(function):
    wrong.hold(function)


def test_every_argument_is_wrong_once():
    assert wrong.untested_arguments(TABLE) == []
    tested = {function.call for function in TABLE.values()}
    public = {getattr(models, name) for name in models.__all__ if name[0].islower()}
    assert public <= tested
