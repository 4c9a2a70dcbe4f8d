"""Flags that choose how networks are trained, in place of the plan."""

import pytest

from autounet.cli.recipe import RecipeChoices
from autounet.errors import UsageError
from autounet.plan import LossSpec, Plan
from autounet.preset import NNUNET_OPTIMIZER


@pytest.fixture(scope="module")
def plan(trained) -> Plan:
    """Preset small: another optimizer than nnU-Net's; classes box and core."""
    return Plan.load(trained.runs / trained.volumes.name / "plan.json")


def test_without_flags_the_plan_stays_as_it_is(plan: Plan) -> None:
    assert RecipeChoices().applied_to(plan) == plan
    assert RecipeChoices("default", "default").applied_to(plan) == plan


def test_nnunets_recipe_whatever_the_plan_says(plan: Plan) -> None:
    other = plan.model_copy(update={"augmentation": "unet2015", "loss": LossSpec(kind="border_ce")})
    found = RecipeChoices("nnunet").applied_to(other)
    assert (found.optimizer, found.augmentation, found.loss) == (NNUNET_OPTIMIZER, "nnunet", LossSpec())
    assert found.training_recipe() != plan.training_recipe()
    assert found.recipe("3d_fullres") == plan.recipe("3d_fullres")  # the network, and what is prepared, are the same


def test_class_weights_by_name(plan: Plan) -> None:
    assert RecipeChoices(class_weights="core=5").applied_to(plan).loss.class_weights == (1.0, 1.0, 5.0)
    assert RecipeChoices(class_weights="background=0.5, box=2,core=0").applied_to(plan).loss.class_weights == (0.5, 2.0, 0.0)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (RecipeChoices("fast"), "--recipe fast: no such recipe"),
        (RecipeChoices(augmentation="heavy"), "--augmentation heavy: no such kind"),
        (RecipeChoices(class_weights="core"), "found core, expected class=weight"),
        (RecipeChoices(class_weights="core=-1"), "cannot be read"),
        (RecipeChoices(class_weights="core=nan"), "cannot be read"),
        (RecipeChoices(class_weights="core=1,core=2"), "core is there twice"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(choices: RecipeChoices, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choices.check()


@pytest.mark.parametrize(
    ("text", "words"), [("liver=2", "no class 'liver'.*background, box, core"), ("background=0,box=0,core=0", "all weights are 0")]
)
def test_weights_that_do_not_fit_the_classes(plan: Plan, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RecipeChoices(class_weights=text).applied_to(plan)
