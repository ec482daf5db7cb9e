"""Speed and memory, measured against what stock layers, other frameworks and the machine can do."""
