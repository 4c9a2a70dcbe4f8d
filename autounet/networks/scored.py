"""Which part of a patch a network puts out scores for: all of it, or the middle where convolutions are not padded."""

from autounet.errors import ArtefactError
from autounet.networks.cost import output_size
from autounet.plan import Configuration, NetworkSpec


def is_unpadded(spec: NetworkSpec) -> bool:
    """Whether scores are smaller than the patch. Then images are continued by mirroring where a patch reaches beyond them."""
    return spec.kind == "unet2015"


def scored_size(configuration: Configuration) -> tuple[int, ...]:
    """Size of the scores for a patch, one side per network axis.

    Raises:
        ArtefactError: The plan's patch does not fit its network.
    """
    try:
        return output_size(configuration.network, configuration.patch_size)
    except ValueError as error:
        raise ArtefactError(
            f"{configuration.name}: the plan's patch of {'×'.join(map(str, configuration.patch_size))} does not fit its network",
            found=error,
            remedy="run `autounet plan` again, or correct the patch size in plan.json",
        ) from None
