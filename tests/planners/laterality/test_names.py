"""Names of classes: which pairs differ in left and right alone."""

import pytest

from autounet.planners.laterality.names import named_pairs


def found(*names: str) -> list[tuple[str, str, str]]:
    """Pairs as (left, right, what told them)."""
    return [(names[pair.left], names[pair.right], pair.naming) for pair in named_pairs(names)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("kidney_left", "kidney_right"),
        ("left kidney", "right kidney"),
        ("LeftKidney", "RightKidney"),
        ("lKidney", "rKidney"),
        ("LUNG_LEFT", "LUNG_RIGHT"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("ctx-lh-insula", "ctx-rh-insula"),
        ("lh.precuneus", "rh.precuneus"),
        ("femur_l", "femur_r"),
        ("L Optic Nerve", "R Optic Nerve"),
        ("Eye (left)", "Eye (right)"),
        ("rib_left_5", "rib_right_5"),
        ("Parotid_Lt", "Parotid_Rt"),
        ("Niere links", "Niere rechts"),
        ("rein gauche", "rein droit"),
        ("Left L5 root", "Right L5 root"),
        ("Left atrium", "Right atrium"),
    ],
)
def test_pairs_by_words(left: str, right: str) -> None:
    assert found(left, right) == [(left, right, "words")]
    assert found(right, "liver", left) == [(left, right, "words")]


@pytest.mark.parametrize(("left", "right"), [("LV", "RV"), ("LK", "RK"), ("lkidney", "rkidney"), ("LVEndo", "RVEndo"), ("liver", "river")])
def test_a_first_letter_is_weak_evidence(left: str, right: str) -> None:
    assert found(left, right) == [(left, right, "initials")]


@pytest.mark.parametrize(
    "names",
    [
        ("Anterior", "Posterior"),
        ("upper", "lower"),
        ("RV", "MYO"),
        ("left kidney", "right lung"),
        ("left kidney", "kidney"),
        ("left and right kidney", "right and left kidney"),
        ("left_kidney", "Left-Kidney", "right_kidney"),  # which belong together, they do not say
        ("lung_middle_lobe_right", "lung_upper_lobe_left"),
        ("tumour", "oedema"),
        ("1", "2"),
        ("L5", "L4"),
    ],
)
def test_no_pairs(names: tuple[str, ...]) -> None:
    assert found(*names) == []


def test_many_pairs_come_in_the_datasets_order() -> None:
    names = ("rib_right_2", "rib_left_1", "spine", "rib_right_1", "rib_left_2")
    assert [pair.positions for pair in named_pairs(names)] == [(0, 4), (1, 3)]
