"""The options that commands share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[str, typer.Option("-d", "--dataset", help="Dataset: a path, a name, a prefix or a number (Task04, 4).")]
OptionalDataset = Annotated[str | None, typer.Option("-d", "--dataset", help="Dataset: a path, a name, a prefix or a number.")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Folder of datasets (repeatable). Default: $AUTOUNET_DATA, ., ./data, ./raw, $nnUNet_raw."),
]
Runs = Annotated[Path | None, typer.Option("--runs", help="Folder for everything that is made. Default: ./autounet_runs, $AUTOUNET_RUNS.")]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="nnunet (8 GB of GPU memory), small (a CPU, or a few minutes), resenc-m, -l, -xl, unet2015, or a file of your own. "
        "Default: the plan's, or nnunet.",
    ),
]
GpuMemory = Annotated[float | None, typer.Option("--gpu-memory", help="GPU memory to plan for, in GB.")]
ConfigurationName = Annotated[
    str | None, typer.Option("-c", "--configuration", help="One of the plan, such as 2d or 3d_lowres. Default: 3d_fullres if planned.")
]
Licence = Annotated[str, typer.Option("--licence", help="Under which licence the model may be used; stands in the file.")]
Description = Annotated[str, typer.Option("--description", help="What people should know about the model; stands in the file.")]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, …, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Threads that read and prepare. Default: the cores there are, at most 8.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show results, warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show more of what is done.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ImagePatterns = Annotated[
    list[str] | None, typer.Option("--images", help="Where images are, in quotes: 'ct/*/T1.nii.gz'. Once for each channel; with --labels.")
]
LabelPattern = Annotated[str | None, typer.Option("--labels", help="Where label maps are, in quotes: 'ct/*/seg.nii.gz'.")]
Table = Annotated[
    Path | None,
    typer.Option(
        "--table", help="A .csv, .tsv or .json with columns image (or image_0, … or channels), label, id, patient, fold, annotated."
    ),
]
CaseName = Annotated[
    str | None, typer.Option("--id", help="Names of cases: {1} is what the first * stands for. Default: the parts that vary.")
]
PatientName = Annotated[str | None, typer.Option("--patient", help="The same for patients, whose cases stay in one fold.")]
DryTable = Annotated[bool, typer.Option("--dry-run", help="Show the cases, and write nothing.")]
