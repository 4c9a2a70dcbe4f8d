"""From images and weights to label maps on the original grid, and their scores."""
