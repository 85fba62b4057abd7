"""A network for tables whose predictions have the unit of the targets."""

from torch import Tensor, nn

import argus_core


@argus_core.register("nn_module", "table_net")
class TableNet(nn.Module):
    """Two layers, (batch, columns) to (batch, 1), that begin at the mean and deviation of the targets."""

    def __init__(self, columns: int, mean: float, deviation: float, width: int = 32, dropout: float = 0.3):
        super().__init__()
        hidden = [nn.Linear(columns, width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))
        self.mean, self.deviation = mean, deviation

    def forward(self, rows: Tensor) -> Tensor:
        return self.mean + self.deviation * self.layers(rows)
