"""The kind of a wine, by gradient-boosted trees of LightGBM."""

import argparse

import lightgbm
import mlflow
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=8, help="most leaves of a tree")
    leaves = parser.parse_args().leaves

    analyses, kinds = load_wine(return_X_y=True, as_frame=True)
    # LightGBM takes no names with other characters than letters, digits and _.
    analyses.columns = [name.replace("/", "_") for name in analyses.columns]
    x_train, x_test, y_train, y_test = train_test_split(analyses, kinds, test_size=0.25, random_state=42, stratify=kinds)

    with mlflow.start_run():
        model = lightgbm.LGBMClassifier(num_leaves=leaves, n_estimators=50, min_child_samples=5, n_jobs=1, verbose=-1)
        model.fit(x_train, y_train)
        mlflow.log_param("leaves", leaves)
        mlflow.log_metric("accuracy", model.score(x_test, y_test))
        mlflow.lightgbm.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(x_test, model.predict(x_test)),
            input_example=x_test.head(2),
            registered_model_name="wine-lightgbm",
            pip_requirements="requirements.txt",
        )


if __name__ == "__main__":
    main()
