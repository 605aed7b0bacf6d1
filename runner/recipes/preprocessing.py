"""The recipe's part `preprocessing`: what happens to features before the estimator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.recipes.part import Part


class Numeric(Part):
    """What happens to numbers and flags."""

    impute: Literal["median", "mean", "zero", "none"] = "median"
    """What a missing value becomes: `median` or `mean` of the training rows, or 0. `none`: it stays
    missing, for an estimator that takes missing values (docs/recipe.md#missing-values)."""
    add_indicator: bool = False
    """Whether to add a column for each number and flag that is missing in some training row: 1
    where it is missing, else 0."""
    scale: Literal["auto", "standard", "none"] = "auto"
    """`standard`: to mean 0 and deviation 1. `auto`: `standard` if the estimator wants it, as
    linear models, neighbours and networks do and trees do not."""


class Categorical(Part):
    """What happens to text."""

    encode: Literal["onehot", "target", "ordinal"] = "onehot"
    """`onehot`: one column per category. `target`: the label's mean in the category, cross-fitted.
    `ordinal`: one number per category, for an estimator that takes missing values; boosters take it
    as a category, not as a number (docs/recipe.md#categories)."""
    min_frequency: Annotated[int, Field(ge=1)] = 20
    """The least number of training rows of a category; a missing value is a category too. A rarer
    or unseen category becomes all zeros, the label's mean, or a missing value."""


class Preprocessing(Part):
    """What happens to features before the estimator, by their type."""

    numeric: Numeric = Numeric()
    """Numbers and flags."""
    categorical: Categorical = Categorical()
    """Text."""
