"""nnU-Net v2: its files read as ours."""
