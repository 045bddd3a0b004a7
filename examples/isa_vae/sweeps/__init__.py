"""Many runs: the experiments, the workers that make them, and their rows."""
