"""What a trained model can do, measured and made visible: the paper's tables and figures."""
