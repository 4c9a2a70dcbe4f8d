"""Where things lie: the paths that docs and users rely on."""

from pathlib import Path

from autounet.layout import RunLayout


def test_paths(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "Task04")
    fold = run.fold("3d_fullres", "0")
    found = {
        str(path.relative_to(run.root).as_posix())
        for path in (
            run.fingerprint,
            run.plan,
            run.splits,
            run.manifest,
            run.log,
            run.prepared("2d"),
            run.models,
            fold.weights,
            fold.weights_best,
            fold.resume,
            fold.history,
            fold.progress,
            fold.validation,
            fold.scores,
        )
    }
    assert found == {
        "fingerprint.json",
        "plan.json",
        "splits.json",
        "manifest.json",
        "run.log",
        "prepared/2d",
        "models",
        *(
            f"models/3d_fullres/fold_0/{name}"
            for name in (
                "weights.safetensors",
                "weights_best.safetensors",
                "resume.pt",
                "history.jsonl",
                "progress.png",
                "validation",
                "scores.json",
            )
        ),
    }


def test_asking_for_a_path_creates_nothing(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "Task04")
    _ = run.plan, run.prepared("2d"), run.fold("2d", "all").weights
    assert list(tmp_path.iterdir()) == []
