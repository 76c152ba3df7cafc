import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

x, y = load_diabetes(return_X_y=True, as_frame=True)
x = x[["bmi", "bp"]]
with mlflow.start_run():
    scaler = StandardScaler().fit(x)
    regressor = LinearRegression().fit(scaler.transform(x), y)
    mlflow.log_metric("features", 2)
    signature = mlflow.models.infer_signature(x, y)
    mlflow.sklearn.log_model(scaler, name="scaler", pip_requirements=["scikit-learn"])
    mlflow.sklearn.log_model(regressor, name="regressor", signature=signature, pip_requirements=["scikit-learn"])
