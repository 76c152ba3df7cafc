"""Ridge regression of scikit-learn's diabetes data. Replace data and model by your own; keep the run and the logged model."""

import argparse

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, default=0.1, help="strength of the regularisation")
    alpha = parser.parse_args().alpha

    x, y = load_diabetes(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=42)

    with mlflow.start_run():
        mlflow.log_param("alpha", alpha)
        model = Ridge(alpha=alpha).fit(x_train, y_train)
        predicted = model.predict(x_test)
        mlflow.log_metrics({"r2": r2_score(y_test, predicted), "rmse": root_mean_squared_error(y_test, predicted)})
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(x_test, predicted),
            input_example=x_test.head(1),
            registered_model_name="NAME",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
