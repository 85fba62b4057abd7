"""The mean absolute errors of models without a network, on the same rows: ``python baseline.py``."""

import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV

import argus_core


def rows(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs (rows, columns) and the targets (rows,) of a split."""
    inputs, targets = argus_core.resolve("dataset", "diabetes").load()(split=split).tensors
    return inputs.double().numpy(), targets[:, 0].double().numpy()


models = {
    "the mean of the training targets": DummyRegressor(),
    "a random forest": RandomForestRegressor(100, min_samples_leaf=5, max_features=0.5, random_state=0),
    "ridge regression": RidgeCV(np.logspace(-2, 4, 25)),
}
for name, model in models.items():
    model.fit(*rows("train"))
    errors = [
        np.abs(model.predict(inputs) - targets).mean() for inputs, targets in map(rows, ("val", "test"))
    ]
    print(f"{name:34}val {errors[0]:.1f}  test {errors[1]:.1f}")
