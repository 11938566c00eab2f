"""Distillation: the loss, the student's beginning, and a teacher that is left alone."""

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train.smaller.distilled import Distilled, student_of


def test_the_student_begins_as_blocks_of_the_teacher(make_model):
    """Evenly spread ones, and the embedding and the norm; of the same width."""
    teacher = make_model(layers=4)
    student = student_of(teacher, layers=2)
    for mine, theirs in ((0, 0), (1, 2)):
        got, want = student.blocks[mine].state_dict(), teacher.blocks[theirs].state_dict()
        assert all(torch.equal(got[name], want[name]) for name in want)
    assert torch.equal(student.embedding.weight, teacher.embedding.weight)
    assert student.embedding.weight is not teacher.embedding.weight
    for layers in (0, 4, 5):
        with pytest.raises(ConfigError, match="student of"):
            student_of(teacher, layers=layers)


def test_the_loss_of_the_paper(make_model, make_loader):
    """By hand: half T**2 KL at T = 2, half cross-entropy, over the targets alone; soft=0 is the plain loss."""
    teacher, student = make_model(seed=1), make_model(seed=2, layers=1)
    with torch.no_grad():
        teacher.embedding.weight.mul_(20)
    batch = make_loader().batch(0, 0)
    plain, count = student.loss_sum(batch)
    total, counted = Distilled(student, teacher, soft=0.0).loss_sum(batch)
    torch.testing.assert_close(total, plain)
    assert counted == count
    p = (teacher(batch["tokens"], batch["segment_ids"]) / 2).softmax(-1)
    q = (student(batch["tokens"], batch["segment_ids"]) / 2).softmax(-1)
    segments = batch["segment_ids"]
    follows = torch.zeros_like(segments, dtype=torch.bool)
    follows[:, :-1] = (segments[:, :-1] == segments[:, 1:]) & (segments[:, :-1] != 0)
    kl = (p * (p / q).log()).sum(-1)[follows].sum()
    total, _ = Distilled(student, teacher).loss_sum(batch)
    torch.testing.assert_close(total, 0.5 * 4 * kl + 0.5 * plain, rtol=1e-4, atol=1e-3)
    same, _ = Distilled(teacher, teacher, soft=1.0).loss_sum(batch)
    assert abs(same.item()) < 1e-3


def test_the_teacher_is_no_part_of_what_is_trained(make_model, make_loader):
    """No parameter of it is there, none gets a gradient, and it may be trained by others."""
    teacher = make_model(seed=1)
    module = Distilled(make_model(seed=2, layers=1), teacher)
    assert all(name.startswith("student.") for name, _ in module.named_parameters())
    module.loss_sum(make_loader().batch(0, 0))[0].backward()
    assert all(weight.grad is None and weight.requires_grad for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in module.parameters())
