"""DeepLOB (Zhang, Zohren and Roberts 2019, arXiv 1808.03668), the published baseline: a window of books to classes.

Convolutions first join price and size of a level, then the two sides, then all levels; an inception block looks
over several spans of time, an LSTM reads the result. One trunk serves all horizons here, with a classifier each.
"""

import torch
from torch import Tensor, nn

from emp.core.records import HORIZONS, LEVELS
from emp.perception.targets import CLASSES

WINDOW = 100
FEATURES = 4 * LEVELS
"""Per level: ask price, ask size, bid price, bid size, as the paper orders them; fewer where fewer levels show."""

CHANNELS, BRANCH, HIDDEN = 16, 32, 64


def _block(inputs: int, across: tuple[int, int], stride: tuple[int, int]) -> nn.Sequential:
    """A convolution across a row of the book, then two over time, which keep their length by padding."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, CHANNELS, across, stride), nn.LeakyReLU(0.01)]
    layers.append(nn.BatchNorm2d(CHANNELS))
    for _ in range(2):
        layers += [nn.ZeroPad2d((0, 0, 1, 2)), nn.Conv2d(CHANNELS, CHANNELS, (4, 1)), nn.LeakyReLU(0.01)]
        layers.append(nn.BatchNorm2d(CHANNELS))
    return nn.Sequential(*layers)


def _branch(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.LeakyReLU(0.01), nn.BatchNorm2d(BRANCH))


class DeepLOB(nn.Module):
    """x [B, WINDOW, 4 * levels] to class logits [B, HORIZONS, CLASSES] at the last event of the window."""

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self.book = nn.Sequential(
            _block(1, (1, 2), (1, 2)), _block(CHANNELS, (1, 2), (1, 2)), _block(CHANNELS, (1, levels), (1, 1))
        )
        one = (1, 1)
        self.short = _branch(
            nn.Conv2d(CHANNELS, BRANCH, one),
            nn.LeakyReLU(0.01),
            nn.Conv2d(BRANCH, BRANCH, (3, 1), padding=(1, 0)),
        )
        self.long = _branch(
            nn.Conv2d(CHANNELS, BRANCH, one),
            nn.LeakyReLU(0.01),
            nn.Conv2d(BRANCH, BRANCH, (5, 1), padding=(2, 0)),
        )
        self.pooled = _branch(nn.MaxPool2d((3, 1), (1, 1), (1, 0)), nn.Conv2d(CHANNELS, BRANCH, one))
        self.lstm = nn.LSTM(3 * BRANCH, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, HORIZONS * CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Classify windows of books."""
        book = self.book(x[:, None])  # [B, CHANNELS, WINDOW, 1]
        seen = torch.cat((self.short(book), self.long(book), self.pooled(book)), 1)[..., 0]
        hidden, _ = self.lstm(seen.transpose(1, 2))
        logits: Tensor = self.head(hidden[:, -1]).reshape(-1, HORIZONS, CLASSES)
        return logits
