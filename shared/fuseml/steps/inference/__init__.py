"""The Open Inference Protocol (v2, JSON form) for MLflow models: between tensors and the inputs and outputs of a model.

Pure functions. Specification: kserve/open-inference-protocol, "Inference REST"; its extension for binary tensor data is not supported.
"""
