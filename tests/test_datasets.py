"""The shipped data sets: shapes, R's level orders, errors."""

import pandas as pd
import pytest

import fastlmm_core as flm

SHAPES = {
    "sleepstudy": (180, 3),
    "InstEval": (73421, 7),
    "Penicillin": (144, 3),
    "Pastes": (60, 4),
    "Dyestuff": (30, 2),
    "Dyestuff2": (30, 2),
    "cake": (270, 5),
    "cbpp": (56, 4),
    "Orthodont": (108, 4),
    "Machines": (54, 3),
    "Oats": (72, 4),
    "Exam": (4059, 10),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_and_no_missing_values(name):
    frame = flm.load_dataset(name)
    assert frame.shape == SHAPES[name]
    assert not frame.isna().any().any()
    assert all(isinstance(frame[c].dtype, pd.CategoricalDtype) or frame[c].dtype.kind in "if" for c in frame)


def test_levels_are_strings_in_the_order_of_R():
    assert list(flm.load_dataset("sleepstudy")["Subject"].cat.categories[:3]) == ["308", "309", "310"]
    assert list(flm.load_dataset("Machines")["Worker"].cat.categories) == ["6", "2", "4", "1", "3", "5"]
    assert list(flm.load_dataset("Oats")["Block"].cat.categories) == ["VI", "V", "III", "IV", "II", "I"]
    instructors = flm.load_dataset("InstEval")["d"].cat.categories
    assert (len(instructors), list(instructors[:4])) == (1128, ["1", "6", "7", "8"])
    assert list(flm.load_dataset("Exam")["schgend"].cat.categories) == ["mixed", "boys", "girls"]


def test_values():
    sleep = flm.load_dataset("sleepstudy")
    assert sleep.iloc[0].tolist() == [249.56, 0, "308"]
    assert flm.load_dataset("Dyestuff")["Yield"].mean() == 1527.5
    assert flm.load_dataset("InstEval")["y"].sum() == 235369


def test_list():
    table = flm.list_datasets()
    assert list(table.index) == list(SHAPES)
    assert table["rows"].to_dict() == {name: rows for name, (rows, _) in SHAPES.items()}
    assert table["description"].str.len().min() > 20 and table["source"].str.startswith("R package").all()


def test_unknown_name_gets_a_hint():
    with pytest.raises(ValueError, match="'sleep_study': did you mean 'sleepstudy'"):
        flm.load_dataset("sleep_study")
    with pytest.raises(flm.FastLMMError, match="there are sleepstudy, InstEval"):
        flm.load_dataset("mtcars")


def test_each_call_returns_its_own_copy():
    frame = flm.load_dataset("Dyestuff")
    frame.loc[0, "Yield"] = 0
    assert flm.load_dataset("Dyestuff").loc[0, "Yield"] == 1545
