"""A frozen network with a new head, trained on a folder of photographs, as PyTorch's tutorial on it does.

The photographs are drawn into a folder first, and the "pretrained" weights are those of a seed.
"""

import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset


def draw_photographs(root):
    noise = np.random.default_rng(0)
    for phase, count in (("train", 40), ("val", 8)):
        for kind, name in enumerate(("ants", "bees")):
            (root / phase / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 256, (60, 80, 3), dtype=np.uint8)
                pixels[:, :, kind] //= 2
                photo = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
                photo.save(root / phase / name / f"{i}.jpg", quality=90)


class ImageFolder(Dataset):
    def __init__(self, root, transform):
        self.classes = sorted(path.name for path in root.iterdir())
        self.samples = [
            (file, label) for label, name in enumerate(self.classes) for file in sorted((root / name).iterdir())
        ]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image), label


def normalised(image):
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def for_training(image):
    """RandomResizedCrop(112), RandomHorizontalFlip, ToTensor, Normalize."""
    side = int(min(image.size) * random.uniform(0.6, 1.0))
    left, top = random.randint(0, image.width - side), random.randint(0, image.height - side)
    image = image.crop((left, top, left + side, top + side)).resize((112, 112), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return normalised(image)


def for_validation(image):
    return normalised(image.resize((112, 112), Image.Resampling.BILINEAR))


def pretrained():
    layers = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = pretrained()
        for param in self.features.parameters():
            param.requires_grad = False
        self.fc = nn.Linear(64, 2)

    def forward(self, x):
        return self.fc(self.features(x))


def train_model(model, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    with TemporaryDirectory() as tempdir:
        best_model_params_path = Path(tempdir) / "best_model_params.pt"
        torch.save(model.state_dict(), best_model_params_path)
        best_acc = 0.0
        for _epoch in range(num_epochs):
            for phase in ["train", "val"]:
                if phase == "train":
                    model.train()
                else:
                    model.eval()
                running_corrects = 0
                for inputs, labels in dataloaders[phase]:
                    optimizer.zero_grad()
                    with torch.set_grad_enabled(phase == "train"):
                        outputs = model(inputs)
                        _, preds = torch.max(outputs, 1)
                        loss = criterion(outputs, labels)
                        if phase == "train":
                            loss.backward()
                            optimizer.step()
                    running_corrects += torch.sum(preds == labels.data)
                if phase == "train":
                    scheduler.step()
                epoch_acc = running_corrects.double() / len(image_datasets[phase])
                if phase == "val" and epoch_acc > best_acc:
                    best_acc = epoch_acc
                    torch.save(model.state_dict(), best_model_params_path)
        print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:4f}")
        model.load_state_dict(torch.load(best_model_params_path, weights_only=True))
    return model


torch.manual_seed(0)
random.seed(0)
draw_photographs(Path("photographs"))
data_transforms = {"train": for_training, "val": for_validation}
image_datasets = {x: ImageFolder(Path("photographs", x), data_transforms[x]) for x in ["train", "val"]}
dataloaders = {x: DataLoader(image_datasets[x], batch_size=4, shuffle=True) for x in ["train", "val"]}

model_conv = Classifier()
optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.01, momentum=0.9)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=1, gamma=0.1)
train_model(model_conv, nn.CrossEntropyLoss(), optimizer_conv, exp_lr_scheduler, num_epochs=2)
