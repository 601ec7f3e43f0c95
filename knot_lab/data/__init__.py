"""Clips to train on: drawn ones and those of videos, in shards, and the batches made of them."""
