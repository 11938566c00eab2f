"""A network that reads a name by characters and tells its language, as PyTorch's tutorial builds it.

The names are invented. The recurrence is written out: one cell call per character and layer.
"""

import random
import string

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

ALL_LETTERS = string.ascii_lowercase + " .,;'"
ENDINGS = {"Italian": "ini", "Russian": "ov", "Greek": "opoulos", "Dutch": "stra", "Polish": "ski"}


class NamesDataset(Dataset):
    def __init__(self, count):
        self.labels_uniq = sorted(ENDINGS)
        self.data, self.labels = [], []
        for _ in range(count):
            label = random.choice(self.labels_uniq)
            stem = "".join(random.choice(string.ascii_lowercase) for _ in range(random.randint(3, 8)))
            self.data.append(stem + ENDINGS[label])
            self.labels.append(self.labels_uniq.index(label))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return line_to_tensor(self.data[index]), self.labels[index]


def line_to_tensor(line):
    tensor = torch.zeros(len(line), len(ALL_LETTERS))
    for i, letter in enumerate(line):
        tensor[i][ALL_LETTERS.find(letter)] = 1
    return tensor


def collate(batch):
    lines, labels = zip(*batch, strict=True)
    return nn.utils.rnn.pad_sequence(list(lines), batch_first=True), torch.tensor(labels)


class CharRNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden_size) for size in (input_size, hidden_size))
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, lines):
        states = [(lines.new_zeros(len(lines), self.hidden_size),) * 2 for _ in self.cells]
        for step in range(lines.shape[1]):
            x = lines[:, step]
            for layer, cell in enumerate(self.cells):
                states[layer] = cell(x, states[layer])
                x = states[layer][0]
        return self.softmax(self.h2o(x))


def train(rnn, training_data, n_epoch, report_every):
    rnn.train()
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.15)
    criterion = nn.NLLLoss()
    for epoch in range(1, n_epoch + 1):
        current_loss = 0
        loader = DataLoader(training_data, batch_size=64, shuffle=True, collate_fn=collate)
        for lines, labels in loader:
            loss = criterion(rnn(lines), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(rnn.parameters(), 3)
            optimizer.step()
            optimizer.zero_grad()
            current_loss += loss.item()
        if epoch % report_every == 0:
            print(f"{epoch} ({epoch / n_epoch:.0%}): average batch loss = {current_loss / len(loader):.4f}")


torch.manual_seed(0)
random.seed(0)
alldata = NamesDataset(1280)
rnn = CharRNN(len(ALL_LETTERS), 256, len(alldata.labels_uniq))
train(rnn, alldata, n_epoch=2, report_every=1)
