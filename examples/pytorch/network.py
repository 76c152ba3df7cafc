"""The network, in a module of its own: the model takes it along."""

import torch


class Network(torch.nn.Module):
    """A hidden layer above standardised analyses."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = torch.nn.Sequential(torch.nn.Linear(len(mean), 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def forward(self, analyses: torch.Tensor) -> torch.Tensor:
        return self.layers((analyses - self.mean) / self.deviation)
