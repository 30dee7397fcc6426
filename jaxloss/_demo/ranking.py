"""The task `ranking`: orders lists of patients by how far their diabetes progresses within a year."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss._demo import networks
from jaxloss._demo.training import Examples, Experiment, Parameters, Problem, Task

LENGTH, TOP, GRADES = 20, 5, 5
N_TRAINING, N_TEST = 600, 200


def load(seed: int) -> Problem:
    """Lists of 20 random patients of scikit-learn's diabetes data, graded from 0 to 4. No patient of a test list is in
    a training list."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    features, progression = map(np.asarray, load_diabetes(return_X_y=True))
    features = (features / np.std(features, axis=0)).astype(np.float32)
    edges = np.quantile(progression, np.arange(1, GRADES) / GRADES)
    grades = np.digitize(progression, edges).astype(np.int32)
    train, test = train_test_split(np.arange(len(features)), test_size=0.3, random_state=seed, stratify=grades)
    random = np.random.default_rng(seed)

    def lists(patients: np.ndarray, n: int) -> dict[str, Array]:
        chosen = np.stack([random.choice(patients, LENGTH, replace=False) for _ in range(n)])
        return {"features": jnp.asarray(features[chosen]), "target": jnp.asarray(grades[chosen])}

    training, held_out = lists(np.asarray(train), N_TRAINING), lists(np.asarray(test), N_TEST)
    best = -jnp.sort(-held_out["target"], axis=1)

    def measured(parameters: Parameters) -> list[Array]:
        order = jnp.argsort(-_scores(parameters, held_out), axis=1)
        ranked = jnp.take_along_axis(held_out["target"], order, axis=1)
        return [jnp.mean(_gain(ranked, k) / _gain(best, k)) for k in (TOP, LENGTH)]

    return Problem(training, networks.initial_layers(jax.random.key(seed), 10, 1), measured)


def _scores(parameters: Parameters, lists: Examples) -> Array:
    return networks.outputs(parameters, lists["features"])[..., 0]


def _gain(grades: Array, k: int) -> Array:
    """The discounted cumulative gain of the first `k` items of each list."""
    return jnp.sum((2.0 ** grades[:, :k] - 1) / jnp.log2(2.0 + jnp.arange(k)), axis=1)


_of_scores = functools.partial(Experiment.of, _scores)


RANKING = Task(
    title="Lists of 20 patients by the progression of diabetes",
    measures=("NDCG of the top 5", "NDCG"),
    plotted="1 - NDCG of the top 5, test set (%)",
    load=load,
    experiments={
        "mse_loss": _of_scores(jaxloss.mse_loss),
        "ranking_softmax_loss": _of_scores(lambda x, y: jaxloss.ranking_softmax_loss(x, 2.0**y - 1)),
        "listmle_loss": _of_scores(jaxloss.listmle_loss),
        "pairwise_hinge_loss": _of_scores(jaxloss.pairwise_hinge_loss),
        "pairwise_logistic_loss": _of_scores(jaxloss.pairwise_logistic_loss),
        "lambdarank": _of_scores(jaxloss.pairwise_logistic_loss, pair_weights=jaxloss.ndcg_pair_weights),
    },
    epochs=20,
    batch=20,
    learning_rate=1e-2,
)
