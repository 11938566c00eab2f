"""Thin adapters to other people's tools, each in a file of its own and imported when it is used.

script           any PyTorch training script, unmodified, under a profile
hugging_face     a Transformers `Trainer` that is fed by a loader of ours
lightning_data   a Lightning data module made of them
torchvision_rows   torchvision transforms of each picture, as a loader's transform
prometheus, tensorboard   figures of a profile or a run
"""
