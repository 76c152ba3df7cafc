"""The scores of the three kinds of a wine, by a small network of PyTorch. The highest score is the kind."""

import argparse

import mlflow
import numpy
import torch
from network import Network
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200, help="number of passes over all wines")
    epochs = parser.parse_args().epochs

    analyses, kinds = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        analyses.astype(numpy.float32), kinds, test_size=0.25, random_state=42, stratify=kinds
    )
    torch.manual_seed(42)
    torch.set_num_threads(1)
    features, labels = torch.from_numpy(x_train), torch.from_numpy(y_train)
    network = Network(features.mean(dim=0), features.std(dim=0))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)

    with mlflow.start_run():
        for _ in range(epochs):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(features), labels)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            scores = network(torch.from_numpy(x_test)).numpy()
        mlflow.log_param("epochs", epochs)
        mlflow.log_metrics({"loss": float(loss), "accuracy": float((scores.argmax(axis=1) == y_test).mean())})
        mlflow.pytorch.log_model(
            network,
            name="model",
            serialization_format="pickle",
            signature=mlflow.models.infer_signature(x_test, scores),
            # The class of the network is a part of the model.
            code_paths=["network.py"],
            registered_model_name="wine-pytorch",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
