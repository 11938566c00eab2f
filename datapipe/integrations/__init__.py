"""Thin adapters to other people's tools, each in a file of its own and imported when it is used.

script     any PyTorch training script, unmodified, under a profile
"""
