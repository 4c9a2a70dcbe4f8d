"""nnU-Net's choice of postprocessing. Runs in the peer's environment: ``PEER_PYTHON benchmarks/peer_selection.py JOB``.

JOB is a JSON file: predictions, truths (folders; files are written beside the predictions), labels (as in dataset.json), ending, out.
"""

import json
import sys
from pathlib import Path

from nnunetv2.evaluation.evaluate_predictions import load_summary_json
from nnunetv2.postprocessing.remove_connected_components import determine_postprocessing


def main() -> None:
    """The command."""
    job = json.loads(Path(sys.argv[1]).read_text())
    plans = {"image_reader_writer": "SimpleITKIO" if job["ending"] == ".nii.gz" else "NaturalImage2DIO", "label_manager": "LabelManager"}
    dataset = {"labels": job["labels"], "file_ending": job["ending"]}
    _, kept = determine_postprocessing(job["predictions"], job["truths"], plans, dataset, num_processes=2, keep_postprocessed_files=True)
    result = {}
    for name, folder in (("before", job["predictions"]), ("after", f"{job['predictions']}/postprocessed")):
        summary = load_summary_json(f"{folder}/summary.json")
        result[name] = {
            "mean": summary["foreground_mean"]["Dice"],
            "classes": {str(key): entry["Dice"] for key, entry in summary["mean"].items()},
        }
    steps = [each["labels_or_regions"] for each in kept]
    result["steps"] = [sorted(step) if isinstance(step, (list, tuple)) else [step] for step in steps]
    Path(job["out"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
