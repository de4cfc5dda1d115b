"""The report: one page about what a model knows and where it fails."""
