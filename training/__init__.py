"""From prepared cases to weights: sampling, augmentation, losses, the loop and its checkpoints."""
