"""Small training scripts in the manner of PyTorch's own examples, written to disk for the tests to run."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

MLP = """
    import argparse
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    def main():
        parser = argparse.ArgumentParser()
        parser.add_argument("--epochs", type=int, default=2)
        parser.add_argument("--workers", type=int, default=0)
        parser.add_argument("--width", type=int, default=64)
        args = parser.parse_args()
        torch.manual_seed(0)
        inputs, targets = torch.randn(480, 32), torch.randint(0, 4, (480,))
        train = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True, num_workers=args.workers)
        test = DataLoader(TensorDataset(inputs[:96], targets[:96]), batch_size=16)
        model = nn.Sequential(nn.Linear(32, args.width), nn.ReLU(), nn.Linear(args.width, 4))
        loss_fn = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for epoch in range(args.epochs):
            model.train()
            for x, y in train:
                loss = loss_fn(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            correct = 0
            with torch.no_grad():
                for x, y in test:
                    correct += (model(x).argmax(1) == y).sum().item()
            print(f"epoch {epoch} correct {correct}")

    if __name__ == "__main__":
        main()
"""

CNN = """
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset):
        def __len__(self):
            return 96

        def __getitem__(self, index):
            return torch.full((1, 28, 28), index / 96.0), index % 10

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 128, 3, padding=1)
            self.conv2 = nn.Conv2d(128, 128, 3, padding=1)
            self.head = nn.Linear(128 * 7 * 7, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 4)
            return F.log_softmax(self.head(x.flatten(1)), dim=1)

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for x, y in DataLoader(Images(), batch_size=4, shuffle=True):
        optimizer.zero_grad()
        loss = F.nll_loss(net(x), y)
        loss.backward()
        optimizer.step()
    torch.save(net.state_dict(), "net.pt")
    print("trained")
"""

STREAM = """
    import sys, time
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Stream(IterableDataset):
        def __iter__(self):
            info = get_worker_info()
            first, stride = (0, 1) if info is None else (info.id, info.num_workers)
            for index in range(first, 64, stride):
                time.sleep(0.02)
                yield torch.full((8,), float(index)), torch.tensor([index % 2.0])

    if __name__ == "__main__":
        workers = int(sys.argv[1])
        model = nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        seen = 0
        for x, y in DataLoader(Stream(), batch_size=2, num_workers=workers):
            loss = ((model(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(x)
        print("seen", seen)
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A function that writes a script into the working folder and returns its path."""
    monkeypatch.chdir(tmp_path)
    known = {"mlp": MLP, "cnn": CNN, "stream": STREAM}

    def write(name, text=None):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text if text is not None else known[name]))
        return str(path)

    return write


@pytest.fixture
def typical_waits():
    """A function: stage → its share of a run's waits without the three longest, in which workers start and warm up."""

    def shares(summary):
        series = summary.series
        kept = np.argsort(series.parts_ns["wait"])[:-3]
        waits = {name: float(np.sum(np.array(ns)[kept])) for name, ns in series.waits_ns.items()}
        return {name: ns / sum(waits.values()) for name, ns in waits.items()}

    return shares
