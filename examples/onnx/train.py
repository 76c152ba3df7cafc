"""The kind of a wine, by a decision tree that is converted to ONNX and served by onnxruntime."""

import argparse

import mlflow
import numpy
import skl2onnx
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=4, help="most decisions in a row")
    depth = parser.parse_args().depth

    analyses, kinds = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        analyses.astype(numpy.float32), kinds, test_size=0.25, random_state=42, stratify=kinds
    )
    with mlflow.start_run():
        model = DecisionTreeClassifier(max_depth=depth, random_state=42).fit(x_train, y_train)
        mlflow.log_param("depth", depth)
        mlflow.log_metric("accuracy", model.score(x_test, y_test))
        # Without maps of probabilities, which are no tensors.
        graph = skl2onnx.to_onnx(model, x_train[:1], options={"zipmap": False})
        mlflow.onnx.log_model(
            graph,
            name="model",
            signature=mlflow.models.infer_signature(x_test, {"label": model.predict(x_test), "probabilities": model.predict_proba(x_test)}),
            registered_model_name="wine-onnx",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
