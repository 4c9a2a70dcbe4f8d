"""Folds that keep patients together, folds that users bring, and folds of datasets that grow."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autounet.errors import ArtefactError, DatasetError
from autounet.folds import (
    carried_over,
    check_folds,
    folds_of_rows,
    grouped_folds,
    is_by_rule,
    leaks_of,
    read_folds,
    remarks_on,
    separated,
    standard_folds,
)
from autounet.splits import Split, Splits, five_folds

CASES = [f"case_{number:02d}" for number in range(20)]
GROUPS = st.lists(st.integers(1, 6), min_size=5, max_size=12)


def patients_of(sizes: Sequence[int]) -> dict[str, str]:
    """As many cases as said for each patient."""
    return {f"p{patient}_{number}": f"p{patient}" for patient, size in enumerate(sizes) for number in range(size)}


class TestPatients:
    def test_without_patients_folds_are_nnunets(self) -> None:
        assert standard_folds(CASES, {}) == five_folds(CASES)

    def test_patients_with_one_case_each_change_nothing(self) -> None:
        assert standard_folds(CASES, {case: f"of {case}" for case in CASES}) == five_folds(CASES)

    @given(GROUPS)
    def test_no_patient_is_in_two_folds_and_every_case_in_one(self, sizes: list[int]) -> None:
        patients = patients_of(sizes)
        folds = grouped_folds(list(patients), patients)
        assert sorted(case for fold in folds for case in fold.validation) == sorted(patients)
        assert all(set(fold.train) == set(patients) - set(fold.validation) for fold in folds)
        assert separated(folds, patients) == {}

    @given(GROUPS)
    def test_folds_are_as_even_as_greedy_filling_makes_them(self, sizes: list[int]) -> None:
        """The known sizes: patients from the largest on, each put into the emptiest of five bins; by hand, with a plain sort."""
        bins = [0] * 5
        for size in sorted(sizes, reverse=True):
            bins[bins.index(min(bins))] += size
        patients = patients_of(sizes)
        assert sorted(len(fold.validation) for fold in grouped_folds(list(patients), patients)) == sorted(bins)

    def test_the_order_of_cases_makes_no_difference(self) -> None:
        patients = patients_of([3, 2, 2, 1, 1, 4])
        assert grouped_folds(list(patients), patients) == grouped_folds(list(patients)[::-1], patients)

    def test_a_case_without_a_patient_is_one_of_its_own(self) -> None:
        """A patient that is called like a case is not that case."""
        patients = {"a": "b", "c": "b"}
        folds = grouped_folds(["a", "b", "c", "d", "e", "f"], patients)
        assert sorted(len(fold.validation) for fold in folds) == [1, 1, 1, 1, 2]
        assert [fold.validation for fold in folds if len(fold.validation) == 2] == [("a", "c")]

    def test_too_few_patients(self) -> None:
        with pytest.raises(DatasetError, match=r"at least five patients: found 4 patients with 12 cases.*-f all.*--splits"):
            grouped_folds(list(patients_of([3] * 4)), patients_of([3] * 4))


class TestFoldsOfRows:
    def test_numbers_say_who_is_held_out(self) -> None:
        folds = folds_of_rows(["a", "b", "c", "d"], {"a": 1, "b": 0, "c": 1})
        assert folds == (Split(train=("a", "c", "d"), validation=("b",)), Split(train=("b", "d"), validation=("a", "c")))

    def test_one_fold_is_enough(self) -> None:
        assert folds_of_rows(["a", "b"], {"b": 0}) == (Split(train=("a",), validation=("b",)),)

    def test_gaps_are_refused(self) -> None:
        with pytest.raises(DatasetError, match=r"gaps: found 1, 2, expected 0, 1, 2"):
            folds_of_rows(["a", "b"], {"a": 1, "b": 2})


class TestGrowing:
    def test_old_cases_stay_and_new_ones_go_to_the_smallest(self) -> None:
        """Of 21 cases four folds hold out four and one five; the new ones fill up from the first on."""
        old = five_folds([*CASES, "case_20"])
        new = carried_over(old, [*CASES, "case_20", "x", "y"], {})
        assert new is not None
        assert [len(fold.validation) for fold in old] == [5, 4, 4, 4, 4]
        assert not {"x", "y"} & set(new[0].validation)
        assert sorted(len(fold.validation) for fold in new) == [4, 4, 5, 5, 5]
        for before, now in zip(old, new, strict=True):
            assert set(before.validation) <= set(now.validation)
            assert set(before.train) <= set(now.train)
            assert not set(now.train) & set(now.validation)

    def test_a_new_case_of_a_known_patient_goes_where_the_patient_is(self) -> None:
        patients = patients_of([2, 2, 2, 2, 2])
        old = grouped_folds(list(patients), patients)
        grown = {**patients, "p3_late": "p3", "p9_late": "p9"}
        new = carried_over(old, list(grown), grown)
        assert new is not None
        assert separated(new, grown) == {}
        assert sum("p9_late" in fold.validation for fold in new) == 1

    @given(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def test_growing_step_by_step_never_moves_anyone(self, steps: list[int]) -> None:
        names, states = list(CASES), [five_folds(CASES)]
        for number, step in enumerate(steps):
            names += [f"new_{number}_{each}" for each in range(step)]
            state = carried_over(states[-1], sorted(names), {})
            assert state is not None
            states.append(state)
        for before, now in pairwise(states):
            assert all(set(a.validation) <= set(b.validation) for a, b in zip(before, now, strict=True))
        sizes = [len(fold.validation) for fold in states[-1]]
        assert max(sizes) - min(sizes) <= 1

    def test_cases_that_are_gone_leave_the_others_where_they_are(self) -> None:
        new = carried_over(five_folds(CASES), CASES[1:], {})
        assert new is not None
        assert [case for fold in new for case in fold.validation if case in fold.train] == []
        assert sum(len(fold.validation) for fold in new) == 19

    def test_a_fold_that_would_hold_nothing_out_cannot_be_carried_over(self) -> None:
        folds = (Split(train=("a", "b"), validation=("c",)), Split(train=("c",), validation=("a", "b")))
        assert carried_over(folds, ["a", "b"], {}) is None

    def test_a_patient_who_only_trains_goes_on_training(self) -> None:
        folds = (Split(train=("a", "b"), validation=("c",)),)
        assert carried_over(folds, ["a", "b", "c", "d"], {"a": "p", "d": "p"}) == (Split(train=("a", "b", "d"), validation=("c",)),)


class TestBringing:
    def test_nnunets_file(self, tmp_path: Path) -> None:
        path = tmp_path / "splits_final.json"
        path.write_text(json.dumps([{"train": ["b", "a"], "val": ["c"]}, {"train": ["c"], "val": ["b", "a"]}]))
        assert read_folds(path) == (Split(train=("a", "b"), validation=("c",)), Split(train=("c",), validation=("a", "b")))

    def test_our_own_file(self, tmp_path: Path) -> None:
        splits = Splits(made_from={}, folds=five_folds(CASES))
        splits.save(tmp_path / "splits.json")
        assert read_folds(tmp_path / "splits.json") == splits.folds

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "is not valid JSON"),
            ('{"train": []}', "is no list of folds: found a JSON dict"),
            ("[3]", "fold 0 is malformed"),
            ('[{"train": ["a"]}]', "fold 0 is malformed"),
            ('[{"train": ["a"], "val": [3]}]', "fold 0 is malformed"),
            ('{"kind": "splits", "schema_version": 99}', "of another version"),
        ],
    )
    def test_files_that_are_none(self, text: str, words: str, tmp_path: Path) -> None:
        (tmp_path / "folds.json").write_text(text)
        with pytest.raises(ArtefactError, match=words):
            read_folds(tmp_path / "folds.json")

    @pytest.mark.parametrize(
        ("fold", "words"),
        [
            (Split(train=("a", "x"), validation=("b",)), "unknown cases x"),
            (Split(train=("a", "b"), validation=("b",)), "b in training and validation"),
            (Split(train=("a", "a"), validation=("b",)), "a named twice"),
            (Split(train=("a",), validation=()), "1 training and 0 validation cases"),
        ],
    )
    def test_what_is_refused(self, fold: Split, words: str) -> None:
        with pytest.raises(ArtefactError, match=f"fold 1 cannot be used: found {words}"):
            check_folds([Split(train=("a",), validation=("b",)), fold], ["a", "b"], "mine.json")

    def test_what_is_allowed_and_told(self) -> None:
        folds = [Split(train=("a", "p1"), validation=("b", "p2")), Split(train=("a",), validation=("b",))]
        check_folds(folds, ["a", "b", "c", "p1", "p2"], "mine.json")
        unused, never, often = remarks_on(folds, ["a", "b", "c", "p1", "p2"])
        (patient,) = leaks_of(folds, {"p1": "p", "p2": "p"})
        assert unused == "in no fold, neither trained nor scored: c"
        assert never == "never held out, so they are not scored: a, p1"
        assert often.endswith("take the first: b")
        assert patient.startswith("patient p is in both halves of fold 0")

    def test_nothing_is_told_of_the_standard_folds(self) -> None:
        assert remarks_on(five_folds(CASES), CASES) == []
        assert leaks_of(five_folds(CASES), {}) == []


def test_edited_folds_are_told_from_the_rules_own() -> None:
    folds = five_folds(CASES)
    patients = {"case_00": "p", "case_01": "p"}
    assert is_by_rule(folds, {})
    assert is_by_rule(folds, patients), "the patients may have been named later"
    assert is_by_rule(grouped_folds(CASES, patients), patients)
    assert not is_by_rule((folds[1], folds[0], *folds[2:]), {})
    assert not is_by_rule(folds[:3], {})


def test_what_folds_are_made_from_names_patients_only_where_there_are_some() -> None:
    """Folds of before stay fresh."""
    assert set(Splits.source(CASES)) == {"cases"}
    assert Splits.source(CASES) == Splits.source(CASES, {}, {})
    assert Splits.source(CASES, {"case_00": "p"}) != Splits.source(CASES, {"case_00": "q"})
