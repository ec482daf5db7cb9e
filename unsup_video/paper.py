"""Figures of the paper (arXiv 1502.04681v3), to set beside one's own."""

# Table 2, 2-layer models: loss of the future, by kind of model and whether its future decoder is
# conditional.
TABLE_2 = {
    # Cross entropy, nats/frame.
    "moving_mnist": {
        ("future_predictor", False): 350.2,
        ("composite", False): 344.9,
        ("future_predictor", True): 343.5,
        ("composite", True): 341.2,
    },
    # Squared loss of 32x32 RGB patches, 16 frames -> 13. The paper does not say in which units the
    # pixels are. They cannot be in [0, 1]: these are more than what always guessing the mean frame
    # costs there. So they rank the models, and compare with no other figure.
    "patches": {
        ("future_predictor", False): 225.2,
        ("composite", False): 210.7,
        ("future_predictor", True): 221.3,
        ("composite", True): 208.1,
    },
}


def table_2(data: str, kind: str, layers: int, conditional_future: bool) -> float | None:
    """The paper's figure for a model on "moving_mnist" or "patches"; None where it has none."""
    if layers != 2:
        return None
    return TABLE_2.get(data, {}).get((kind, conditional_future))
