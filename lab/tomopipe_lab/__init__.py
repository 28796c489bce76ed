"""tomopipe-lab: training, evaluation and benchmarks of tomopipe; campaigns do not need it."""
