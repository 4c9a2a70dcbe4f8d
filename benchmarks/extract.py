"""Our fingerprint extraction alone, for ``benchmarks/fingerprint.py``: a process of its own, as the peer's command is one.

``python -m benchmarks.extract DATASET OUTPUT WORKERS``
"""

import sys
from pathlib import Path

from autounet.dataset import read_dataset
from autounet.planners.extract import extract_fingerprint
from autounet.runtime import Runtime

if __name__ == "__main__":
    dataset, output, workers = sys.argv[1:]
    extract_fingerprint(read_dataset(Path(dataset)), Runtime(workers=int(workers))).save(Path(output))
