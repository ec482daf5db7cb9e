"""Export and serving of a trained model: signatures, the SavedModel, and a client."""
