import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main() -> None:
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1])
    x, y = load_iris(return_X_y=True, as_frame=True)
    x.columns = [name.split(" (")[0].replace(" ", "_") for name in x.columns]
    model = LogisticRegression(max_iter=rounds).fit(x, y)
    with mlflow.start_run():
        mlflow.log_metric("rounds", rounds)
        signature = mlflow.models.infer_signature(x, model.predict(x))
        mlflow.sklearn.log_model(model, name="churn", signature=signature, registered_model_name="churn", pip_requirements=["scikit-learn"])


if __name__ == "__main__":
    main()
