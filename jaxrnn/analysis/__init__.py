"""Ways to look at a recurrent network: functions that take a cell, a model or its states and return arrays."""

from jaxrnn.analysis.activations import activations
from jaxrnn.analysis.attention_weights import attention_weights
from jaxrnn.analysis.gradient_flow import (
    GradientNorms,
    carry_gradients,
    gradient_norms,
    log_singular_values,
    spectral_radius,
    state_jacobians,
)
from jaxrnn.analysis.saliency import IntegratedGradients, input_gradients, integrated_gradients
from jaxrnn.analysis.trajectories import PrincipalComponents, principal_components
from jaxrnn.analysis.units import UnitScores, unit_scores

__all__ = [
    "GradientNorms",
    "IntegratedGradients",
    "PrincipalComponents",
    "UnitScores",
    "activations",
    "attention_weights",
    "carry_gradients",
    "gradient_norms",
    "input_gradients",
    "integrated_gradients",
    "log_singular_values",
    "principal_components",
    "spectral_radius",
    "state_jacobians",
    "unit_scores",
]
