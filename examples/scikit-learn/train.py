"""The kind of a wine, by its nearest neighbours among 178 analysed ones."""

import argparse

import mlflow
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbors", type=int, default=5, help="number of neighbours that decide")
    neighbors = parser.parse_args().neighbors

    analyses, kinds = load_wine(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(analyses, kinds, test_size=0.25, random_state=42, stratify=kinds)

    with mlflow.start_run():
        model = make_pipeline(StandardScaler(), KNeighborsClassifier(neighbors)).fit(x_train, y_train)
        mlflow.log_param("neighbors", neighbors)
        mlflow.log_metric("accuracy", model.score(x_test, y_test))
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(x_test, model.predict(x_test)),
            input_example=x_test.head(2),
            registered_model_name="wine-neighbors",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
