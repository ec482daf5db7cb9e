"""One HTML page of everything that was evaluated."""
