"""A design as plain matrices."""

import numpy as np


def atom_values(atom):
    return atom.values.astype(float) if atom.table is None else np.asarray(atom.table)[atom.values]


def matrix(columns, atoms, n):
    """The (n, k) matrix of some columns."""
    full = np.ones((n, len(columns)))
    for j, column in enumerate(columns):
        for place in column.atoms:
            full[:, j] *= atom_values(atoms[place])
    return full


def names(columns):
    return [column.name for column in columns]
