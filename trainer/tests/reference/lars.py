"""lars.json: ten steps of LARS on a real network, a ResNet-8 for CIFAR.

A 3×3 convolution of 16 channels, three stages of one basic block (16, 32, 64 channels, strides 1,
2, 2, projections where the shape changes), global average pool, linear. Batch norm sees its own
rank's images only; gradients are averaged over ranks. Rank r takes images 8 r to 8 r + 7 of the
batch "input", the same ones at every step.

v <- m v + lr λ (g + β w), w <- w - v, with λ = η ‖w‖ / (‖g‖ + β ‖w‖), or without β ‖w‖; on biases
and batch norm λ = 1 and β = 0 (You, Gitman, Ginsburg, arXiv 1708.03888). lr = 0.02 (t + 1) for
t = 0, 1, …, 9.

    python lars.py
"""

import torch
import torch.nn.functional as F
from torch.nn import BatchNorm2d, Conv2d, Linear, Module, Sequential

from formula import deviation, fill, images, labels, summary, write

MOMENTUM, DECAY, COEFFICIENT = 0.9, 5e-4, 0.02
STEPS, BATCH = 10, 8


def rate(t):
    return 0.02 * (t + 1)


class Block(Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1 = Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.downsample = Sequential()
        if stride > 1:
            projection = Conv2d(inputs, channels, 1, stride, bias=False)
            self.downsample = Sequential(projection, BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class ResNet8(Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = BatchNorm2d(16)
        self.layer1 = Sequential(Block(16, 16, 1))
        self.layer2 = Sequential(Block(16, 32, 2))
        self.layer3 = Sequential(Block(32, 64, 2))
        self.fc = Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def train(dtype, ranks, decay_in_norm):
    """Losses of every step and rank, weights, and the models of the ranks, whose weights are the
    first one's and whose running statistics are their own."""
    torch.set_default_dtype(dtype)
    models = [fill(ResNet8()).to(dtype).train() for _ in range(ranks)]
    parameters = dict(models[0].named_parameters())
    velocity = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    x = images((BATCH * ranks, 3, 16, 16)).to(dtype).split(BATCH)
    y = labels(BATCH * ranks, 10).split(BATCH)
    losses = []
    for t in range(STEPS):
        gradients = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
        losses.append([])
        for model, x_rank, y_rank in zip(models, x, y):
            model.zero_grad()
            loss = F.cross_entropy(model(x_rank), y_rank)
            loss.backward()
            losses[-1].append(loss.item())
            for name, tensor in model.named_parameters():
                gradients[name] += tensor.grad / ranks
        with torch.no_grad():
            for name, w in parameters.items():
                g, decay, local = gradients[name], 0.0, 1.0
                if w.ndim > 1:
                    norm_w, norm_g = w.double().norm().item(), g.double().norm().item()
                    decay = DECAY
                    local = COEFFICIENT * norm_w / (norm_g + decay_in_norm * decay * norm_w)
                v = velocity[name]
                v.copy_(MOMENTUM * v + rate(t) * local * (g + decay * w))
                w -= v
            for model in models[1:]:
                for name, w in model.named_parameters():
                    w.copy_(parameters[name])
    return losses, parameters, models


def case(ranks, decay_in_norm):
    losses, weights, models = train(torch.float64, ranks, decay_in_norm)
    single_losses, single_weights, _ = train(torch.float32, ranks, decay_in_norm)
    fixture = {
        "ranks": ranks,
        "form": "with-decay" if decay_in_norm else "without-decay",
        "losses_f64": losses,
        "losses_f32": single_losses,
    }
    for name, tensor in weights.items():
        row = {"shape": list(tensor.shape), **summary(tensor)}
        fixture[name] = row | {"f32_deviation": deviation(single_weights[name], tensor)}
    for rank, model in enumerate(models):
        for name, tensor in model.named_buffers():
            if tensor.ndim:
                fixture[f"rank {rank} {name}"] = summary(tensor)
    return fixture


write(
    "lars.json",
    {
        "settings": {
            "steps": STEPS,
            "batch_per_rank": BATCH,
            "side": 16,
            "classes": 10,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
            "coefficient": COEFFICIENT,
            "rates": [rate(t) for t in range(STEPS)],
        },
        "with_decay": case(1, True),
        "without_decay": case(1, False),
        "with_decay_2_ranks": case(2, True),
    },
)
