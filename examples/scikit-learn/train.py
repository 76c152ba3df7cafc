"""The kind of a wine, by a logistic regression on its analyses."""

import argparse

import mlflow
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", type=float, default=1.0, help="inverse of the strength of the regularisation")
    c = parser.parse_args().c

    analyses, kinds = load_wine(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(analyses, kinds, test_size=0.25, random_state=42, stratify=kinds)

    with mlflow.start_run():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(x_train, y_train)
        mlflow.log_param("c", c)
        mlflow.log_metric("accuracy", model.score(x_test, y_test))
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(x_test, model.predict(x_test)),
            input_example=x_test.head(2),
            registered_model_name="wine-scikit-learn",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
