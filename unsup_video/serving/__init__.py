"""From a run to a served model: signatures, the SavedModel, and a client."""
