"""A network for a table of numbers: it standardises its columns by itself, so that new rows need no preparation."""

from torch import Tensor, nn

import argus_core


@argus_core.register("nn_module", "table_net")
class TableNet(nn.Module):
    """Two layers from raw columns to a number of the given mean and deviation, (batch, columns) to (batch, 1)."""

    def __init__(self, columns: int, mean: float, deviation: float, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(columns, affine=False, momentum=None)  # the columns' means and deviations
        self.layers = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.mean, self.deviation = mean, deviation

    def forward(self, rows: Tensor) -> Tensor:
        return self.mean + self.deviation * self.layers(self.scale(rows))
