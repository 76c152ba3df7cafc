"""The kind of a wine, by gradient-boosted trees of XGBoost."""

import argparse

import mlflow
import xgboost
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="number of trees")
    rounds = parser.parse_args().rounds

    analyses, kinds = load_wine(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(analyses, kinds, test_size=0.25, random_state=42, stratify=kinds)

    with mlflow.start_run():
        model = xgboost.XGBClassifier(n_estimators=rounds, max_depth=3, n_jobs=1).fit(x_train, y_train)
        mlflow.log_param("rounds", rounds)
        mlflow.log_metric("accuracy", model.score(x_test, y_test))
        mlflow.xgboost.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(x_test, model.predict(x_test)),
            input_example=x_test.head(2),
            registered_model_name="wine-xgboost",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
