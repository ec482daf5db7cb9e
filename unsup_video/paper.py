"""Figures of the paper (arXiv 1502.04681v3), to set beside one's own."""

# Table 2, 2-layer models: cross entropy of the future on Moving MNIST, nats/frame, by kind of model
# and whether its future decoder is conditional.
TABLE_2_MOVING_MNIST = {
    ("future_predictor", False): 350.2,
    ("composite", False): 344.9,
    ("future_predictor", True): 343.5,
    ("composite", True): 341.2,
}


def table_2(kind: str, layers: int, conditional_future: bool) -> float | None:
    """The paper's figure for such a model on Moving MNIST; None where Table 2 has none."""
    return TABLE_2_MOVING_MNIST.get((kind, conditional_future)) if layers == 2 else None
