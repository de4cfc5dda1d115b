"""Quantized models for devices: attention in built-in operations, calibration photos, recipes, comparison."""
