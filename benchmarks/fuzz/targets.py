"""All targets."""

from benchmarks.fuzz import commands, dicom, documents, folders, images, models, structures
from benchmarks.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for module in (images, folders, dicom, structures, documents, models, commands) for target in module.TARGETS
}
