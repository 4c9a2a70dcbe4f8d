"""The entry point and the commands' options. What a command does is imported when it runs, so that help is instant."""

import io
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from autounet import __version__
from autounet.cli import options
from autounet.cli.guard import INTERRUPTED, guarded, interrupt_on_sigterm

if TYPE_CHECKING:
    from autounet.cli.session import Session

MOST = 10**6
"""Epochs, or steps of an epoch."""

_arguments: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())
"""The command line of the command that runs, for the record it leaves."""

app = typer.Typer(
    name="autounet",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

dataset_app = typer.Typer(no_args_is_help=True, help="Make a dataset of files where they lie, add cases to it, look at it.")
app.add_typer(dataset_app, name="dataset")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"autounet {__version__}\n")
        raise typer.Exit


@app.callback()
def _autounet(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)] = False,
) -> None:
    """Segment biomedical images with a U-Net that configures itself.

    Three commands: plan looks at the data and decides, train learns, predict segments new images.
    """


@app.command()
@guarded
def plan(
    dataset: options.OptionalDataset = None,
    preset: options.PresetName = None,
    gpu_memory: options.GpuMemory = None,
    spacing: Annotated[
        str | None, typer.Option("--spacing", help="Target spacing in mm: z,y,x as the images are read; y,x for planar ones.")
    ] = None,
    patch_size: Annotated[
        list[str] | None,
        typer.Option("--patch-size", help="Patch in the plan's axis order: 64,128,128 or 3d_lowres=64,128,128; may be repeated."),
    ] = None,
    batch_size: Annotated[list[str] | None, typer.Option("--batch-size", help="Batch: 4 or 2d=16; may be repeated.")] = None,
    normalization: Annotated[
        list[str] | None,
        typer.Option("--normalization", help="zscore, zscore+mask, ct, rescale, rgb or none; for one channel 0=ct; may be repeated."),
    ] = None,
    mirror_axes: Annotated[
        str | None, typer.Option("--mirror-axes", help="Axes that may be mirrored: some of z,y,x as the images are read, all or none.")
    ] = None,
    features: Annotated[str | None, typer.Option("--features", help="Feature maps of the first stage, or of each: 24 or 24,48,96.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all that was chosen by flags before; one choice: --spacing rule.")] = False,
    fingerprint: Annotated[
        Path | None, typer.Option("--fingerprint", help="Plan from a fingerprint alone, ours or nnU-Net's; nothing is written.")
    ] = None,
    dataset_json: Annotated[Path | None, typer.Option("--dataset-json", help="The dataset.json that belongs to --fingerprint.")] = None,
    compare: Annotated[Path | None, typer.Option("--compare", help="Show what differs from this plan.json, and why.")] = None,
    splits: Annotated[
        Path | None, typer.Option("--splits", help="Folds to use from now on: nnU-Net's splits_final.json, or a splits.json of autounet.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a plan or folds that prepared cases or trained models depend on.")
    ] = False,
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Look at a dataset and decide everything, with reasons."""
    session = _open(data=data, runs=runs, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.planning import Source, run_plan
    from autounet.cli.wanted import Choices, Wanted

    choices = Choices(spacing, patch_size or (), batch_size or (), normalization or (), mirror_axes, features)
    given = {
        "--reset": reset,
        "--splits": splits is not None,
        "--overwrite": overwrite,
        "--data": data,
        "--runs": runs,
        "--workers": workers is not None,
    }
    source = Source(dataset, fingerprint, dataset_json, tuple(flag for flag, value in given.items() if value))
    run_plan(session, source, Wanted(preset, gpu_memory, choices, reset), overwrite, compare, splits)


@app.command()
@guarded
def train(
    dataset: options.Dataset,
    fold: Annotated[
        str, typer.Option("-f", "--fold", help="0 to 4 (or as many folds as you gave), several as 0,2,4, or all: one model on all cases.")
    ],
    configuration: options.ConfigurationName = None,
    preset: options.PresetName = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, max=MOST, help="Number of epochs. Default: the plan's.")] = None,
    iterations: Annotated[int, typer.Option("--iterations", min=1, max=MOST, help="Steps per epoch.")] = 250,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time per fold, validation included: 90s, 15m, 2h. The learning rate fits.")
    ] = None,
    early_stop: Annotated[
        int | None, typer.Option("--early-stop", min=1, help="End when the Dice has not risen for so many epochs.")
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="default: the plan's. nnunet: nnU-Net's optimizer, augmentation and loss.")
    ] = "default",
    augmentation: Annotated[
        str | None, typer.Option("--augmentation", help="default (the plan's), nnunet, strong, light, none or unet2015.")
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option("--class-weights", help="Weights of classes in the loss: liver=1,tumour=5. Those not named keep theirs.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="Begin with the weights of a file made by export, or of a trained fold, adapted.")
    ] = None,
    track: Annotated[list[str] | None, typer.Option("--track", help="tensorboard, wandb or mlflow; may be repeated.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from a checkpoint if there is one.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train anew what is trained already.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same run.")] = 1234,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Train folds of the cross-validation and score them on their held-out cases."""
    common = {"data": data, "runs": runs, "device": device, "precision": precision, "workers": workers, "seed": seed}
    session = _open(**common, quiet=quiet, verbose=verbose, shared=True)
    from autounet.cli.recipe import RecipeChoices
    from autounet.cli.training import Wish, run_train
    from autounet.cli.wanted import Wanted

    choices = RecipeChoices(recipe, augmentation, class_weights)
    wish = Wish(epochs, iterations, budget, early_stop, resume, overwrite, choices, init, track or ())
    run_train(session, dataset, fold, configuration, Wanted(preset), wish)


@app.command()
@guarded
def predict(
    images: Annotated[Path, typer.Option("-i", "--input", help="A folder of images, one image, or a table (.csv, .tsv, .json) of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the label maps, or a file for one image.")],
    dataset: options.OptionalDataset = None,
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", help="A run folder, or a file made by export or import. Default: the only trained dataset."),
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option("-c", "--configuration", help="One, or 2d+3d_fullres for the mean. Default: what was selected, else 3d_fullres."),
    ] = None,
    fold: Annotated[str | None, typer.Option("-f", "--fold", help="Folds to use, as 0,1,2. Default: all trained ones.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror/--no-mirror", help="Average over mirrored copies: better, 4 to 8 times slower.")] = True,
    postprocessing: Annotated[
        bool, typer.Option("--postprocessing/--no-postprocessing", help="Do what the model's file says is done to its label maps.")
    ] = True,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of every class, as <case>.npz beside the label map.")
    ] = False,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="nii.gz, nrrd, mha, tif, png, dicom-seg or rtstruct. Default: the images' own; for DICOM, dicom-seg; for JPEG, png.",
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also write one file per structure (0 and 1), into a folder per case: <case>/liver.nii.gz.")
    ] = False,
    colours: Annotated[
        bool, typer.Option("--colours", help="Also write names and colours of the structures for ITK-SNAP and 3D Slicer.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Also write where the folds are unsure, in percent of the highest entropy, into uncertainty/."),
    ] = False,
    memory: Annotated[
        float | None, typer.Option("--memory", min=0.5, max=1e6, help="Memory to keep to, in GB. Default: most of what is available.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict anew what is there already.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs: options.Runs = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Predict label maps on the images' own grids, in their file type or another."""
    session = _open(runs=runs, device=device, precision=precision, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.models import choose_model
    from autounet.cli.predicting import Request, run_predict

    chosen = choose_model(session, dataset, model)
    request = Request(
        images,
        output,
        configuration,
        fold,
        mirror,
        overwrite,
        postprocessing,
        memory,
        probabilities,
        uncertainty,
        file_format,
        per_class,
        colours,
    )
    run_predict(session, chosen, request)


@app.command()
@guarded
def export(
    dataset: options.OptionalDataset = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file. Default: the dataset's name and .zip.")] = None,
    configuration: Annotated[
        list[str] | None,
        typer.Option("-c", "--configuration", help="May be repeated; the first predicts by default. Default: what was selected."),
    ] = None,
    fold: Annotated[str | None, typer.Option("-f", "--fold", help="Folds to put in, as 0,1,2. Default: all trained ones.")] = None,
    licence: options.Licence = "",
    description: options.Description = "",
    overwrite: options.OverwriteFile = False,
    runs: options.Runs = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write trained models into one file, with which predict -m works anywhere."""
    session = _open(runs=runs, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.exporting import run_export
    from autounet.cli.models import choose_layout

    layout = choose_layout(session, dataset)
    run_export(session, layout, output, configuration or (), fold, (licence, description), overwrite)


@app.command("import")
@guarded
def import_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a trained nnU-Net v2 model, of several, or a zip of either.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file, for predict -m.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="final or best.")] = "final",
    fold: Annotated[str | None, typer.Option("-f", "--fold", help="Folds to take, as 0,1,2. Default: all trained ones.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Which model, where there are several: trainer__plans.")] = None,
    licence: options.Licence = "",
    description: options.Description = "",
    overwrite: options.OverwriteFile = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Make one file of a trained nnU-Net v2 model, with which predict -m works; nothing of it is executed."""
    session = _open(quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.importing import run_import

    run_import(session, model, output, checkpoint, fold, name, (licence, description), overwrite)


@app.command()
@guarded
def preprocess(
    dataset: options.Dataset,
    configuration: Annotated[
        list[str] | None, typer.Option("-c", "--configuration", help="May be repeated. Default: all that need no trained folds.")
    ] = None,
    preset: options.PresetName = None,
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Crop, normalise and resample all cases into the run folder."""
    session = _open(data=data, runs=runs, workers=workers, quiet=quiet, verbose=verbose)
    from autounet.cli.preparing import run_preprocess
    from autounet.cli.wanted import Wanted

    run_preprocess(session, dataset, configuration or (), Wanted(preset))


@app.command("run")
@guarded
def run_command(
    dataset: options.Dataset,
    configuration: Annotated[
        list[str] | None, typer.Option("-c", "--configuration", help="May be repeated. Default: all that can be trained.")
    ] = None,
    fold: Annotated[str | None, typer.Option("-f", "--fold", help="Folds, as 0,1,2. Default: all.")] = None,
    preset: options.PresetName = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time for everything: 2h, 8h. Folds get equal parts, a tenth is for the end.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, max=MOST, help="Number of epochs. Default: the plan's.")] = None,
    iterations: Annotated[int, typer.Option("--iterations", min=1, max=MOST, help="Steps per epoch.")] = 250,
    recipe: Annotated[
        str, typer.Option("--recipe", help="default: the plan's. nnunet: nnU-Net's optimizer, augmentation and loss.")
    ] = "default",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew folds of other cases or of another plan; the others are kept.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and do nothing but plan.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same run.")] = 1234,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Plan, prepare, train all folds of all configurations, select and report; what is done already is kept."""
    common = {"data": data, "runs": runs, "device": device, "precision": precision, "workers": workers, "seed": seed}
    session = _open(**common, quiet=quiet, verbose=verbose)
    from autounet.cli.recipe import RecipeChoices
    from autounet.cli.running import RunWish, run_everything
    from autounet.cli.training import Wish
    from autounet.cli.wanted import Wanted

    training = Wish(epochs, iterations, None, None, True, False, RecipeChoices(recipe, None, None), None, ())
    run_everything(session, dataset, Wanted(preset), training, RunWish(configuration or (), fold, budget, dry_run, overwrite))


@app.command()
@guarded
def select(
    dataset: options.Dataset,
    rule: Annotated[
        str, typer.Option("--rule", help="best: the highest mean Dice. cheapest: the cheapest not significantly worse than that.")
    ] = "best",
    ensembles: Annotated[bool, typer.Option("--ensembles/--no-ensembles", help="Try averages of several configurations, too.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Select anew though nothing has changed.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Compare what is trained on the held-out cases, choose the model that predicts, and learn its postprocessing."""
    session = _open(data=data, runs=runs, device=device, precision=precision, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.selecting import run_select

    run_select(session, dataset, rule, ensembles, overwrite)


@app.command()
@guarded
def ensemble(
    inputs: Annotated[list[Path], typer.Option("-i", "--input", help="Folder made by predict --probabilities; two or more.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the label maps.")],
    dataset: options.Dataset,
    file_format: Annotated[
        str | None, typer.Option("--format", help="nii.gz, nrrd, mha, tif or png. Default: the first folder's; for DICOM, nii.gz.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace label maps that are there.")] = False,
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Average probabilities of several predictions of the same images into label maps."""
    session = _open(data=data, runs=runs, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.ensembling import run_ensemble

    run_ensemble(session, inputs, output, dataset, overwrite, file_format)


@app.command()
@guarded
def evaluate(
    predictions: Annotated[Path, typer.Option("-p", "--predictions", help="Folder of predicted label maps.")],
    truths: Annotated[Path, typer.Option("-g", "--labels", help="Folder of true label maps.")],
    dataset: options.OptionalDataset = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all scores to this file.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write a table of the means by class to this file.")] = None,
    tolerance: Annotated[str, typer.Option("--tolerance", help="Of the normalised surface Dice.")] = "1mm",
    present: Annotated[bool, typer.Option("--present", help="Score the cases that have a prediction, though others have none.")] = False,
    data: options.Data = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Overlap, volumes, surface distances and lesions found, per case and class.

    Dice, IoU, precision, recall, volumes, 95 % Hausdorff distance, average and normalised surface distances, lesion-wise F1 and Dice.
    Class names come from the dataset (-d), from a dataset.json beside the label folder, or are the label values.
    A class that is in neither prediction nor truth of a case is undefined there and left out of the means; one that is in only
    one of them scores 0, and has no distances.
    """
    session = _open(data=data, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.evaluating import Outputs, run_evaluate

    run_evaluate(session, predictions, truths, dataset, Outputs(csv, latex), tolerance, present)


@app.command()
@guarded
def report(
    dataset: options.Dataset,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file. Default: report.html in the run folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make it anew even if nothing has changed.")] = False,
    data: options.Data = None,
    runs: options.Runs = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write one page about a dataset and its models, that opens in any browser: data, plan, training, scores, slices of cases."""
    session = _open(data=data, runs=runs, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.reporting import run_report

    run_report(session, dataset, output, overwrite)


@app.command()
@guarded
def doctor(
    dataset: options.OptionalDataset = None,
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Look for mistakes in a dataset: labels, copies, headers, intensities.

    Ends with 1 when something severe was found: what is trained or scored with it would be wrong. Warnings and notices end with 0.
    """
    session = _open(data=data, runs=runs, workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.doctoring import run_doctor

    run_doctor(session, dataset)


@dataset_app.command("create")
@guarded
def create_dataset(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of the new dataset, such as Dataset007_Liver; made if it is not there.")
    ],
    images: options.ImagePatterns = None,
    labels: options.LabelPattern = None,
    table: options.Table = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="Name of a channel; may be repeated. Default: what the file names say.")
    ] = None,
    class_names: Annotated[
        list[str] | None, typer.Option("--class", help="Names of the label values 1, 2, …; may be repeated. Default: label_1, label_2, …")
    ] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Names with values: background=0,liver=1,tumour=2.")] = None,
    case_id: options.CaseName = None,
    patient: options.PatientName = None,
    dry_run: options.DryTable = False,
    overwrite: options.OverwriteFile = False,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write a dataset.json for images and label maps that stay where they are: nothing is copied, moved or renamed.

    Patterns are matched with each other by what their wildcards stand for. Labels that are DICOM SEG or RTSTRUCT are drawn once as label
    maps into the dataset's folder.
    """
    session = _open(workers=workers, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.datasets import Names, Sources, run_create

    sources = Sources(images or (), labels, table, case_id, patient)
    run_create(session, folder, sources, Names(channel or (), class_names or (), classes), dry_run, overwrite)


@dataset_app.command("add")
@guarded
def add_to_dataset(
    dataset: options.Dataset,
    images: options.ImagePatterns = None,
    labels: options.LabelPattern = None,
    table: options.Table = None,
    case_id: options.CaseName = None,
    patient: options.PatientName = None,
    dry_run: options.DryTable = False,
    data: options.Data = None,
    runs: options.Runs = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Add cases to a dataset.json; what is prepared and trained with the others stays."""
    session = _open(data=data, runs=runs, workers=workers, quiet=quiet, verbose=verbose)
    from autounet.cli.datasets import Sources, run_add

    run_add(session, dataset, Sources(images or (), labels, table, case_id, patient), dry_run)


@dataset_app.command("show")
@guarded
def show_dataset(
    dataset: options.Dataset,
    data: options.Data = None,
    runs: options.Runs = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show what a dataset has: channels, classes, patients, folds, and the files of its cases. No image is read."""
    session = _open(data=data, runs=runs, quiet=quiet, verbose=verbose, as_json=json)
    from autounet.cli.datasets import run_show

    run_show(session, dataset)


@app.command()
@guarded
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the demo's data and results.")] = Path("autounet_demo"),
    budget: Annotated[str, typer.Option("--budget", help="Training time.")] = "180s",
    device: options.Device = "auto",
    debug: options.Debug = False,
) -> None:
    """Make a small dataset of 3D phantoms and plan, train, predict and evaluate on it."""
    session = _open(device=device)
    from autounet.cli.demonstrating import run_demo

    run_demo(session, run, output, budget, device)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    outer = _arguments.set(tuple(arguments))
    try:
        app(arguments, prog_name="autounet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        _arguments.reset(outer)
    return 0


def main() -> None:
    """The console script."""
    interrupt_on_sigterm()
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)
    code = run(sys.argv[1:])
    if code == INTERRUPTED or "LOCAL_RANK" in os.environ:
        # If Ctrl-C came during an exec(), as when a dataclass is being made, CPython would still end by the signal, long after it
        # was handled. One of torchrun's processes that ends with an error would wait for the others, which wait for it; and one that
        # ends well may be aborted while the threads of its connections are taken down (seen once in some hundred runs). All is
        # saved and closed by now, so leave with the code that is promised.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _open(**settings: Any) -> "Session":
    from autounet.cli.session import open_session

    return open_session(arguments=_arguments.get(), **settings)


def _safe(stream: TextIO | None) -> TextIO:
    """The stream, which shows a stand-in for characters it lacks; what goes to a closed one (``>&-``) is lost."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


if __name__ == "__main__":
    main()
