"""Metrics, the evaluator that applies them, and the metrics file."""
