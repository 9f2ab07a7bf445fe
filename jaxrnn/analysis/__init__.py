"""Ways to look at a recurrent network: functions that take a cell and return arrays."""

from jaxrnn.analysis.gradient_flow import (
    GradientNorms,
    carry_gradients,
    gradient_norms,
    log_singular_values,
    spectral_radius,
    state_jacobians,
)

__all__ = [
    "GradientNorms",
    "carry_gradients",
    "gradient_norms",
    "log_singular_values",
    "spectral_radius",
    "state_jacobians",
]
