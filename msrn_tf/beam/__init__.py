"""Preparation and prediction as Apache Beam pipelines: on this machine, on Flink, Spark or Dataflow.

The only modules that import Beam. What is done to a photo is defined in `data` and `predictions`, for the commands of
one machine too.
"""
