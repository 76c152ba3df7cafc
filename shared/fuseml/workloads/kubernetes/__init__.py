"""Jobs of a Kubernetes cluster: its own Jobs, and the TrainJobs of Kubeflow Trainer, by one API."""

from fuseml.workloads.kubernetes.job import KubernetesJob
from fuseml.workloads.kubernetes.trainjob import TrainJob

__all__ = ["KubernetesJob", "TrainJob"]
