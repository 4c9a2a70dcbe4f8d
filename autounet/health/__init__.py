"""The health of a dataset: what in its images and label maps is likely to be a mistake, before anything is trained on it.

``measure`` looks at one case at a time, alone, by its ``shapes``, ``surroundings`` and ``brightness``; ``labels``, ``volumes``,
``sides``, ``copies``, ``grids`` and ``intensities`` compare the cases and find what is unusual; ``examine`` does it all; ``pictures``
shows what was found.
"""
