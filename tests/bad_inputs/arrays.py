"""Two arrays, and models fitted to them."""

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from mmg_diffusers import MMG, estimate_mi
from mmg_diffusers.arrays.estimate import FittedModel, fit_model
from mmg_diffusers.arrays.fitting import Fit, FitSettings, Fitter, paired
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.arrays.trainer import TrainSettings
from mmg_diffusers.worlds.digits import Digits
from tests.bad_inputs.room import QUICK, Room, rows

rng = np.random.default_rng(0)
X = rng.standard_normal((1000, 1))
Y = 0.8 * X + 0.6 * rng.standard_normal((1000, 1))
MANY = rng.standard_normal((3, 20_000))
LABELS = np.arange(1000) % 3
PLANE, WIDE = rng.standard_normal((1000, 2)), rng.standard_normal((1000, 8))
FIELDS = np.zeros(1000, dtype=[("a", float), ("b", float)])
NAN, INF = float("nan"), float("inf")


def mi(x, y=Y, **options):
    return estimate_mi(x, y, **{"settings": QUICK, **options})


def checkpoint(r: Room):
    """The checkpoint of a fit to other data, before its first step."""
    path = r.folder / "fit.safetensors"
    data = {name: torch.from_numpy(values).float() for name, values in (("x", X), ("y", X))}
    network = VectorNetwork({"x": 1, "y": 1}, torch.eye(2))
    Fitter(network, data, paired("x", ["y"]), QUICK, checkpoint=path).save()
    return path


def fitted(r: Room):
    """A model of x and y that was never trained."""
    preprocessing = Preprocessing.fit({"x": X, "y": Y})
    network = VectorNetwork(preprocessing.sizes, preprocessing.covariance, width=4)
    return FittedModel(preprocessing, network, "x", ("y",), (), Fit(network, 0, 0.0, 0.0, True, []))


ROWS = (
    *rows(
        "estimate_mi(x, y)",
        ("None", lambda r: mi(None), ValueError, "x has dtype object"),
        ("one number", lambda r: mi(np.float64(3.0)), ValueError, "one row a pair"),
        ("no number", lambda r: mi(X, []), ValueError, "one row a pair"),
        ("text", lambda r: mi(X, ["a"] * 1000), ValueError, r"dtype <U1.*return_inverse=True"),
        (
            "complex numbers",
            lambda r: mi(X.astype(complex)),
            ValueError,
            "complex128; pass its real and imaginary part",
        ),
        ("dates", lambda r: mi(X.astype("datetime64[s]")), ValueError, r"dtype datetime64.*\.timedelta64.* makes days"),
        ("lengths of time", lambda r: mi(X.astype("timedelta64[s]")), ValueError, "dtype timedelta64.* makes days"),
        ("dates of a table", lambda r: mi(pd.Series(pd.date_range("2020", periods=1000))), ValueError, "makes days"),
        ("a sparse matrix", lambda r: mi(sparse.csr_matrix(X)), ValueError, r"sparse csr_matrix; pass x.toarray\(\)"),
        ("a sparse array", lambda r: mi(sparse.coo_array(X)), ValueError, r"sparse coo_array; pass x.toarray\(\)"),
        (
            "a missing integer",
            lambda r: mi(pd.Series([None, *LABELS[1:]], dtype="Int64")),
            ValueError,
            r"missing values in rows \[0\]",
        ),
        (
            "a missing float",
            lambda r: mi(pd.Series(X[:, 0]).mask(X[:, 0] == X[5, 0])),
            ValueError,
            r"missing values in rows \[5\]",
        ),
        (
            "a table with a gap",
            lambda r: mi(pd.DataFrame(X).mask(X[3] == X)),
            ValueError,
            r"missing values in rows \[3\]",
        ),
        ("a category", lambda r: mi(pd.Series(["a", "b"] * 500, dtype="category")), ValueError, "return_inverse=True"),
        ("fields with names", lambda r: mi(FIELDS), ValueError, "fields a, b; .*structured_to_unstructured"),
        ("None among numbers", lambda r: mi([None, *X[1:, 0]]), ValueError, "x has dtype object"),
        (
            "a masked row of test",
            lambda r: mi(X, test=(np.ma.masked_greater(X, 1), Y)),
            ValueError,
            "test x has masked",
        ),
        ("rows of different lengths", lambda r: mi([[1.0, 2.0], [3.0]] * 500), ValueError, "rows of one length"),
        ("a row less", lambda r: mi(X, Y[:-1]), ValueError, "differ in length"),
        ("50 pairs", lambda r: mi(X[:50], Y[:50]), ValueError, "got 50 pairs; expected at least 200"),
        ("columns as rows", lambda r: mi(X.T, Y.T), ValueError, "got 1 pairs"),
        ("NaN", lambda r: mi(np.where(X[7] == X, NAN, X)), ValueError, r"x has NaN or infinite values in rows \[7\]"),
        (
            "infinity",
            lambda r: mi(np.where(X[7] == X, INF, X)),
            ValueError,
            r"x has NaN or infinite values in rows \[7\]",
        ),
        ("masked values", lambda r: mi(np.ma.masked_greater(X, 1)), ValueError, "x has masked values"),
        ("a constant column", lambda r: mi(np.c_[X, np.ones(1000)]), ValueError, r"constant columns \[1\]"),
        ("a spread lost beside the mean", lambda r: mi(X + 1e14), ValueError, "subtract a large mean"),
        (
            "more columns than pairs",
            lambda r: mi(np.zeros((1000, 800))),
            ValueError,
            "which need more than",
        ),
        (
            "more columns in both than pairs",
            lambda r: mi(*np.random.default_rng(1).standard_normal((2, 300, 120))),
            ValueError,
            "x, y have 240 columns in all, which need more than",
        ),
        (
            "columns that others determine",
            lambda r: mi(np.c_[MANY[:2].T, MANY[:2].sum(0)], MANY[2]),
            ValueError,
            "linearly dependent",
        ),
        ("x twice", lambda r: mi(X, X), ValueError, "mutual information is infinite"),
        ("y a line in x", lambda r: mi(X, -3 * X + 1), ValueError, "mutual information is infinite"),
        ("y a parabola of x", lambda r: mi(X, X**2), ValueError, "column 0 of y is a function of column 0 of x"),
        ("y the fold of x", lambda r: mi(X, np.abs(X)), ValueError, "is a function of column 0 of x.*infinite"),
        ("y a wave of x", lambda r: mi(X, np.sin(5 * X)), ValueError, "is a function of column 0 of x.*infinite"),
        ("x a wave of y", lambda r: mi(np.sin(5 * X), X), ValueError, "column 0 of x is a function of column 0 of y"),
        (
            "y a product of columns",
            lambda r: mi(PLANE, PLANE[:, 0] * PLANE[:, 1]),
            ValueError,
            "function of columns 0 and 1 of x",
        ),
        (
            "y the norm of x",
            lambda r: mi(PLANE, np.square(PLANE).sum(1)),
            ValueError,
            "function of columns 0 and 1 of x",
        ),
        (
            "y the product of three of 8 columns",
            lambda r: mi(WIDE, WIDE[:, :3].prod(1)),
            ValueError,
            "function of the columns of x",
        ),
        ("y the greatest of 8 columns", lambda r: mi(WIDE, WIDE.max(1)), ValueError, "function of the columns of x"),
        (
            "one of y a fold of one of 8",
            lambda r: mi(WIDE, np.c_[Y, np.abs(WIDE[:, 3])]),
            ValueError,
            "column 1 of y .*column 3 of x",
        ),
        (
            "y a step beside x",
            lambda r: mi(np.c_[X, WIDE], np.c_[Y, X**2]),
            ValueError,
            "column 1 of y .*column 0 of x",
        ),
        (
            "x and its fold given",
            lambda r: mi(X, Y, given=np.abs(X)),
            ValueError,
            "column 0 of c is a function of column 0 of x",
        ),
        ("y a curve in x", lambda r: mi(X, X**3), ValueError, "mutual information is infinite"),
        ("y with x beside it", lambda r: mi(X, np.c_[Y, X]), ValueError, "mutual information is infinite"),
        (
            "a label met once",
            lambda r: mi(X, np.where(np.arange(1000) == 7, 5, LABELS)),
            ValueError,
            "the label 5 in 1 of 1000 pairs, .*merge rare",
        ),
        ("the same floats for labels", lambda r: mi(X, np.ones(1000)), ValueError, r"constant columns \[0\]"),
        ("a single label", lambda r: mi(X, np.zeros(1000, dtype=int)), ValueError, "a single label"),
        ("two columns of labels", lambda r: mi(X, np.zeros((1000, 2), dtype=int)), ValueError, "labels are one column"),
        ("a context of another length", lambda r: mi(X, given=X[:5]), ValueError, "differ in length"),
        ("a constant context", lambda r: mi(X, given=np.ones(1000)), ValueError, "c has constant columns"),
    ),
    *rows(
        "estimate_mi(..., option=)",
        ("a misspelt option", lambda r: mi(X, step=3), TypeError, "step"),
        ("blocks=0", lambda r: mi(X, blocks=0), ValueError, "blocks is 0 for 1000 rows; expected 1 to 250"),
        ("blocks=900", lambda r: mi(X, blocks=900), ValueError, "expected 1 to 250 rows a block"),
        ("blocks='day'", lambda r: mi(X, blocks="day"), TypeError, "blocks is 'day'; expected one label a row"),
        ("blocks=True", lambda r: mi(X, blocks=True), TypeError, "blocks is True; expected one label a row"),
        (
            "blocks of other rows",
            lambda r: mi(X, blocks=LABELS[:9]),
            ValueError,
            r"shape \(9,\); expected one label for each of 1000",
        ),
        ("three blocks", lambda r: mi(X, blocks=LABELS), ValueError, "3 different labels; expected at least 4"),
        ("blocks with NaN", lambda r: mi(X, blocks=X[:, 0] * NAN), TypeError, "expected labels that can be compared"),
        ("blocks of objects", lambda r: mi(X, blocks=[None] * 1000), TypeError, "dtype object; expected labels"),
        ("test_share=1.5", lambda r: mi(X, test_share=1.5), ValueError, "between 0 and 1"),
        ("test_share=NaN", lambda r: mi(X, test_share=NAN), ValueError, "test_share is nan"),
        ("test_share='a'", lambda r: mi(X, test_share="a"), TypeError, "test_share is 'a'"),
        ("folds=1", lambda r: mi(X, folds=1), ValueError, "folds is 1"),
        ("folds=2.5", lambda r: mi(X, folds=2.5), TypeError, "folds is 2.5"),
        ("workers=0", lambda r: mi(X, workers=0), ValueError, "workers is 0"),
        ("workers=1.5", lambda r: mi(X, workers=1.5), TypeError, "workers is 1.5"),
        ("workers='two'", lambda r: mi(X, workers="two"), TypeError, "workers is 'two'"),
        ("workers=None", lambda r: mi(X, workers=None), TypeError, "workers is None"),
        (
            "workers for a share of the pairs",
            lambda r: mi(X, workers=2, test_share=0.3),
            ValueError,
            "workers is 2, and one network is fitted.*pass folds=5",
        ),
        (
            "folds and test_share",
            lambda r: mi(X, folds=5, test_share=0.3),
            ValueError,
            "test_share and folds are given; expected one of them",
        ),
        (
            "more folds than blocks",
            lambda r: mi(X, folds=6, blocks=np.arange(len(X)) % 5),
            ValueError,
            "folds is 6 for 5 blocks of rows",
        ),
        ("test_share=0.9", lambda r: mi(X, test_share=0.9), ValueError, "leaves 100 to fit; expected at least 200"),
        ("one array to test", lambda r: mi(X, test=(X,)), ValueError, "holds 1 arrays"),
        ("test as an array", lambda r: mi(X, test=X), TypeError, "test is a ndarray; expected a tuple of 2"),
        ("test of another width", lambda r: mi(X, test=(X, np.c_[Y, Y])), ValueError, "test y has shape"),
        ("labels that were not fitted", lambda r: mi(X, LABELS, test=(X, LABELS + 1)), ValueError, "the label 3"),
        ("test with NaN", lambda r: mi(X, test=(X * NAN, Y)), ValueError, "test x has NaN"),
        ("estimator='gap'", lambda r: mi(X, estimator="gap"), TypeError, r"one such as MMG\('gap'\)"),
        ("estimator=MMG", lambda r: mi(X, estimator=MMG), TypeError, "the class MMG itself"),
        ("settings as a dict", lambda r: mi(X, settings={"steps": 5}), TypeError, "settings is a dict"),
        ("seed=-3", lambda r: mi(X, seed=-3), ValueError, "seed is -3; expected at least 0"),
        ("seed=2**70", lambda r: mi(X, seed=2**70), ValueError, "what 64 bits hold"),
        ("progress=True", lambda r: mi(X, progress=True), TypeError, "progress is True"),
    ),
    *rows(
        "fit_model(data), FittedModel.estimate(data)",
        ("no variable", lambda r: fit_model({}), ValueError, "there are no variables"),
        (
            "a name that is not there",
            lambda r: fit_model({"x": X, "y": Y}, given=("z",)),
            ValueError,
            "no variable 'z'",
        ),
        ("given='y'", lambda r: fit_model({"x": X, "y": Y}, given="y"), TypeError, "given is a str"),
        ("nothing to diffuse", lambda r: fit_model({"y": Y}), ValueError, "one variable beside"),
        ("held_out=2", lambda r: fit_model({"x": X, "y": Y}, held_out=2), ValueError, "held_out is 2"),
        ("held_out=0.99", lambda r: fit_model({"x": X, "y": Y}, held_out=0.99), ValueError, "leaves 10 of 1000 pairs"),
        ("width=0", lambda r: fit_model({"x": X, "y": Y}, width=0), ValueError, "width is 0"),
        (
            "a checkpoint of other data",
            lambda r: fit_model({"x": X, "y": Y}, settings=QUICK, checkpoint=checkpoint(r)),
            ValueError,
            "written with other settings or data .*data: ",
        ),
        ("checkpoint=3", lambda r: fit_model({"x": X, "y": Y}, checkpoint=3), TypeError, "checkpoint is a int"),
        ("estimate without y", lambda r: fitted(r).estimate({"x": X}), ValueError, "those of the fit, x, y"),
        (
            "estimate, x wider",
            lambda r: fitted(r).estimate({"x": np.c_[X, X], "y": Y}),
            ValueError,
            "1 columns of floats",
        ),
        ("estimate, y as labels", lambda r: fitted(r).estimate({"x": X, "y": LABELS}), ValueError, "columns of floats"),
        ("estimate, y shorter", lambda r: fitted(r).estimate({"x": X, "y": Y[:5]}), ValueError, "differ in length"),
    ),
    *rows(
        "FitSettings(...)",
        ("steps=0", lambda r: FitSettings(steps=0), ValueError, "steps is 0; expected at least 1"),
        ("steps=2.5", lambda r: FitSettings(steps=2.5), TypeError, "steps is 2.5"),
        ("warmup=0", lambda r: FitSettings(warmup=0), ValueError, "warmup is 0"),
        ("lr=-1", lambda r: FitSettings(lr=-1), ValueError, "expected a rate above 0"),
        ("lr=NaN", lambda r: FitSettings(lr=NAN), ValueError, "lr is nan"),
        ("uniform=0", lambda r: FitSettings(uniform=0), ValueError, "a share above 0"),
        ("waves=-1", lambda r: FitSettings(waves=-1), ValueError, "waves is -1"),
        ("least=NaN", lambda r: FitSettings(least=NAN), ValueError, "least is nan"),
    ),
    *rows(
        "TrainSettings(...)",
        ("draws=0", lambda r: TrainSettings(draws=0), ValueError, "draws is 0; expected at least 1"),
        ("average=1", lambda r: TrainSettings(average=1.0), ValueError, r"average in \[0, 1\)"),
        ("weight_decay=-1", lambda r: TrainSettings(weight_decay=-1), ValueError, "weight_decay of at least 0"),
        ("clip=NaN", lambda r: TrainSettings(clip=NAN), ValueError, "clip is nan"),
        ("weighting='x'", lambda r: TrainSettings(weighting="x"), ValueError, "one of eps, v"),
    ),
    *rows(
        "Digits.read(folder), Digits(images, labels)",
        (
            "a folder without digits",
            lambda r: Digits.read(r.folder),
            FileNotFoundError,
            "no train-images-idx3-ubyte in",
        ),
        ("part='all'", lambda r: Digits.read(r.folder, "all"), ValueError, "one of train, test, both"),
        (
            "pixels in [0, 1]",
            lambda r: Digits(np.zeros((3, 4, 4)), np.arange(3)),
            ValueError,
            "dtype float64; expected .N, H, W. of uint8",
        ),
        (
            "a label less",
            lambda r: Digits(np.zeros((3, 4, 4), dtype=np.uint8), np.arange(2)),
            ValueError,
            "expected 3 integers",
        ),
    ),
    *rows(
        "VectorNetwork(sizes, covariance)",
        ("seed=-1", lambda r: VectorNetwork({"x": 1}, torch.eye(1), seed=-1), ValueError, "seed is -1"),
        ("seed='a'", lambda r: VectorNetwork({"x": 1}, torch.eye(1), seed="a"), TypeError, "seed is 'a'"),
        ("no variable", lambda r: VectorNetwork({}, torch.eye(1)), ValueError, "has no variable"),
        ("waves=1.5", lambda r: VectorNetwork({"x": 1}, torch.eye(1), waves=1.5), TypeError, "waves is 1.5"),
        ("sizes that do not fit", lambda r: VectorNetwork({"x": 1}, torch.eye(3)), ValueError, "of 1 coordinates"),
        ("a size of 0", lambda r: VectorNetwork({"x": 0}, torch.eye(1)), ValueError, "the size of 'x' is 0"),
        ("a singular covariance", lambda r: VectorNetwork({"x": 2}, torch.ones(2, 2)), ValueError, "positive definite"),
        ("NaN", lambda r: VectorNetwork({"x": 1}, torch.full((1, 1), NAN)), ValueError, "positive definite"),
        (
            "a falling range",
            lambda r: VectorNetwork({"x": 1}, torch.eye(1), logsnr_range=(3.0, -3.0)),
            ValueError,
            "expected a rising range",
        ),
        (
            "view of another variable",
            lambda r: r.network.view("w"),
            ValueError,
            "no variable 'w'; the network has x, y",
        ),
        ("view of none", lambda r: r.network.view(), ValueError, "nothing is diffused"),
        (
            "a condition of another variable",
            lambda r: r.network.view("x")(torch.zeros(1, 1), torch.zeros(1), {"w": torch.zeros(1, 1)}),
            ValueError,
            "no variable 'w'",
        ),
    ),
)
