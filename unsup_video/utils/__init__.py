"""Files, command lines and progress. Nothing here depends on the rest of the package."""
