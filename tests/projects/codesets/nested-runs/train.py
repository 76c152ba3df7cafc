import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

x, y = load_diabetes(return_X_y=True, as_frame=True)
x = x[["bmi", "bp"]]
with mlflow.start_run(run_name="sweep"):
    for alpha in (10.0, 0.1, 1.0):
        with mlflow.start_run(run_name=f"alpha={alpha}", nested=True):
            model = Ridge(alpha=alpha).fit(x, y)
            mlflow.log_metrics({"r2": r2_score(y, model.predict(x)), "alpha": alpha})
            mlflow.sklearn.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["scikit-learn"])
