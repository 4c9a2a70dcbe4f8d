"""From raw cases to the network's grid: crop, normalise, resample; and the store they are kept in."""
