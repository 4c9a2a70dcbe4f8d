"""Augmentation of whole batches on the training device: parameters are drawn on the host as data, then applied."""
