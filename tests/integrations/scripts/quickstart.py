"""A first network on small grey images, as PyTorch's quickstart tutorial trains it; the images are drawn here."""

import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Clothes(Dataset):
    """28 x 28 PNG images of ten kinds, kept as files are: encoded."""

    def __init__(self, count, seed, transform):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 10, count)
        self.files = [self.draw(random, label) for label in self.labels]
        self.transform = transform

    @staticmethod
    def draw(random, label):
        pixels = random.integers(0, 90, (28, 28), dtype=np.uint8)
        pixels[2 * label : 2 * label + 6, 4:24] += 150
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = Image.open(io.BytesIO(self.files[index]))
        return self.transform(image), int(self.labels[index])


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).unsqueeze(0).float() / 255


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )

    def forward(self, x):
        return self.linear_relu_stack(self.flatten(x))


def train(dataloader, model, loss_fn, optimizer):
    size = len(dataloader.dataset)
    model.train()
    for batch, (X, y) in enumerate(dataloader):
        pred = model(X)
        loss = loss_fn(pred, y)

        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

        if batch % 10 == 0:
            print(f"loss: {loss.item():>7f}  [{(batch + 1) * len(X):>5d}/{size:>5d}]")


def test(dataloader, model, loss_fn):
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X)
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    print(f"Accuracy: {100 * correct / len(dataloader.dataset):>0.1f}%, loss: {test_loss / len(dataloader):>8f}")


torch.manual_seed(0)
training_data = Clothes(1920, 0, to_tensor)
test_data = Clothes(320, 1, to_tensor)
train_dataloader = DataLoader(training_data, batch_size=64)
test_dataloader = DataLoader(test_data, batch_size=64)

model = NeuralNetwork()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-1)
for epoch in range(2):
    print(f"Epoch {epoch + 1}")
    train(train_dataloader, model, loss_fn, optimizer)
    test(test_dataloader, model, loss_fn)
torch.save(model.state_dict(), "model.pth")
print("Done!")
