"""The Open Inference Protocol (v2) for MLflow models: its messages, and tensors as the inputs and outputs of a model.

A request becomes tensors (`messages`, `tensors`, `binary`; over gRPC `rpc`), the tensors the input that the model's signature describes
(`inputs`, `columns`, `nested`, `dates`), and the prediction tensors again (`outputs`). `service` joins them for one model, `batches` joins
concurrent requests, `routes` and `rpc` serve HTTP and gRPC. Specifications: kserve/open-inference-protocol, and the extension
"binary tensor data" of Triton and KServe.

The package runs in the environment of a codeset: Python 3.8 or newer, MLflow 2 or newer.
"""
