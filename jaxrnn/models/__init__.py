"""Models made of the library's parts, as records of pure functions over parameters.

A model with one output for every input is a `jaxrnn.Layer`, as `language_model` is. A tagger needs no
file of its own: ``serial(encoder, dense(features, classes))`` gives every step its logits, and its
`Layer.output_steps` the mask of the loss. Where that form does not fit there is a record of its own.
"""

from jaxrnn.models.classifier import Classifier, ClassifierParams, classifier
from jaxrnn.models.encoder_decoder import EncoderDecoder, EncoderDecoderParams, encoder_decoder
from jaxrnn.models.forecaster import Forecaster, ForecasterParams, forecaster
from jaxrnn.models.language_model import LanguageModelParams, language_model

__all__ = [
    "Classifier",
    "ClassifierParams",
    "EncoderDecoder",
    "EncoderDecoderParams",
    "Forecaster",
    "ForecasterParams",
    "LanguageModelParams",
    "classifier",
    "encoder_decoder",
    "forecaster",
    "language_model",
]
