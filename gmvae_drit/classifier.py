"""A small classifier of labelled images, the judge of whether a translation keeps its content.

Legend: B batch, L classes, C channels, H, W image size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """Three convolution stages; input in [-1, 1]."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width)
        """Channels of each stage."""
        stages: list[nn.Module] = []
        for c_in, c_out, kernel, stride in (
            (3, width, 5, 2),
            (width, 2 * width, 3, 1),
            (2 * width, 4 * width, 3, 1),
        ):
            layers = [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.BatchNorm2d(c_out), nn.ReLU()]
            stages.append(nn.Sequential(*layers, *([nn.MaxPool2d(2)] if stride == 1 else [])))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * width, classes)
        )

    def activations(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] to what each stage sees, (B, C, H', W')."""
        out = []
        for stage in self.stages:
            image = stage(image)
            out.append(image)
        return out

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to logits (B, L)."""
        logits: Tensor = self.head(self.stages(image))
        return logits


def train_classifier(
    image: Tensor, label: Tensor, seed: int, epochs: int = 15, batch: int = 64
) -> Classifier:
    """A classifier of `image` (n, 3, H, W) in [-1, 1] by `label` (n,) int64, trained on small affine changes of them.

    Leaves torch's random state as it was. Returns it in evaluation mode.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(int(label.max()) + 1).to(memory_format=torch.channels_last)  # 0.7 of the time
        batch = min(batch, len(image))
        steps = epochs * (len(image) // batch)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
        for _ in range(epochs):
            order = torch.randperm(len(image))
            for index in order.split(batch)[: len(image) // batch]:
                changed = _affine(image[index]).contiguous(memory_format=torch.channels_last)
                loss = F.cross_entropy(model(changed), label[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def _affine(image: Tensor) -> Tensor:
    """Each image turned by up to 15 degrees, scaled by up to 15 % and shifted by up to 6 % of its size."""
    B = len(image)
    angle, scale = 0.52 * (torch.rand(B) - 0.5), 1 + 0.3 * (torch.rand(B) - 0.5)
    shift = 0.25 * (torch.rand(2, B) - 0.5)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], 1).view(B, 2, 3)
    where = F.affine_grid(matrix, list(image.shape), align_corners=False)
    return F.grid_sample(image, where, padding_mode="reflection", align_corners=False)
