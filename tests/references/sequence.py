"""Losses of sequences: sums over alignments, step by step, one sample at a time."""

import numpy as np

from tests.references import N_CLASSES, extremes

N_FRAMES, N_LABELS = 14, 7


def draw_ctc(generator, shape):
    """Log-probabilities, and labels that are not the blank, 0; some targets repeat a label."""
    scores = generator.normal(size=(*shape, N_FRAMES, N_CLASSES))
    return scores - logsumexp(scores)[..., None], generator.integers(1, N_CLASSES, size=(*shape, N_LABELS))


def draw_rnnt(generator, shape):
    """Logits, and labels that are not the blank, the last class."""
    logits = generator.normal(size=(*shape, N_FRAMES, N_LABELS + 1, N_CLASSES))
    return logits, generator.integers(0, N_CLASSES - 1, size=(*shape, N_LABELS))


def extreme_ctc(a, b, options):
    """The first number in a frame of a label and in one of the blank, the second in others."""
    numbers = extremes.rows(a, b)
    scores = np.stack([np.roll(numbers, t, axis=-1) for t in range(N_FRAMES)], axis=-2)
    target = np.stack([1 + (extremes.classes(a) + i // 2) % (N_CLASSES - 1) for i in range(N_LABELS)], axis=-1)
    return -abs(scores), target


def extreme_rnnt(a, b, options):
    """The same numbers at each node, in another order."""
    numbers = extremes.rows(a, b)
    scores = [[np.roll(numbers, t + 2 * u, axis=-1) for u in range(N_LABELS + 1)] for t in range(N_FRAMES)]
    return np.moveaxis(np.array(scores), 2, 0), extreme_ctc(a, b, options)[1] - 1


def logsumexp(x):
    return np.logaddexp.reduce(x, axis=-1)


def ctc(log_p, target, *, input_lengths=None, target_lengths=None, blank=0, zero_infinity=False):
    def of_sample(log_p, target, n_frames, n_labels):
        states = [blank]
        for label in target[:n_labels]:
            states += [int(label), blank]
        sums = np.full(len(states), -np.inf)
        sums[0] = 0  # a blank before the first frame
        for frame in log_p[:n_frames]:
            before = sums.copy()
            for s in range(1, len(states)):
                sums[s] = np.logaddexp(sums[s], before[s - 1])
                if s > 1 and states[s] != states[s - 2]:
                    sums[s] = np.logaddexp(sums[s], before[s - 2])
            sums = sums + frame[states]
        loss = -logsumexp(sums[-2:])
        return 0.0 if zero_infinity and loss == np.inf else loss

    return _over_samples(of_sample, log_p, target, input_lengths, target_lengths, 2)


def rnnt(logits, target, *, logit_lengths=None, target_lengths=None, blank=-1):
    def of_sample(logits, target, n_frames, n_labels):
        if n_frames == 0:
            return 0.0 if n_labels == 0 else np.inf
        sums = np.full((n_frames, n_labels + 1), -np.inf)
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        for t, u in np.ndindex(sums.shape):
            terms = [0.0] if t == u == 0 else []
            terms += [sums[t - 1, u] + log_p[t - 1, u, blank]] if t else []
            terms += [sums[t, u - 1] + log_p[t, u - 1, target[u - 1]]] if u else []
            sums[t, u] = logsumexp(np.array(terms))
        return -(sums[-1, -1] + log_p[n_frames - 1, n_labels, blank])

    return _over_samples(of_sample, logits, target, logit_lengths, target_lengths, 3)


def _over_samples(of_sample, scores, target, n_frames, n_labels, core):
    shape = scores.shape[:-core]
    n_frames = np.broadcast_to(scores.shape[-core] if n_frames is None else n_frames, shape)
    n_labels = np.broadcast_to(target.shape[-1] if n_labels is None else n_labels, shape)
    target = np.broadcast_to(target, (*shape, target.shape[-1]))
    losses = np.zeros(shape)
    with np.errstate(all="ignore"):
        for i in np.ndindex(shape):
            losses[i] = of_sample(np.asarray(scores[i], np.float64), target[i], n_frames[i], n_labels[i])
    return losses, np.maximum(n_labels, 1).astype(float)
