"""The kernels that tools/study_kernels.py compares, vectorised over chains.

With step size h, scores s and unit mass. Log ratios are integrals of scores along the leapfrog
points, as in src/ratio.cpp: int s . dx = sum_ij C_ij s_i . x_j. All rules here change their sign
with the path, and are additive along it, so that a point's weight does not depend on which point
the trajectory was grown from.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from study_kernels_laws import Law

GUARD = 1.0  # nats, as in the sampler "exact"


@dataclass(frozen=True)
class State:
    """All that is carried: points, scores and momenta (N, d); `low` the scores in bfloat16."""

    x: np.ndarray
    score: np.ndarray
    momentum: np.ndarray
    low: np.ndarray | None = None


@dataclass(frozen=True)
class Info:
    """Acceptance (or the share of chains that moved), and the mean evaluations a chain paid."""

    acceptance: float
    evaluations: float


def start(law: Law, x: np.ndarray, rng: np.random.Generator) -> State:
    """Chains at x with fresh momenta."""
    score = law.score(x)
    return State(x, score, rng.standard_normal(x.shape), to_bfloat16(score))


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16's 8 bits of mantissa, to nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(float)


# --- log ratios along a path


@cache
def polynomial_weights(num_points: int) -> np.ndarray:
    """C[k, i, j] = int_0^k l_i(t) l_j'(t) dt of the Lagrange polynomials of points 0, 1, ..."""
    nodes = np.arange(num_points, dtype=float)
    basis = [
        np.poly1d(np.delete(nodes, i), r=True) / np.prod(i - np.delete(nodes, i))
        for i in range(num_points)
    ]
    integrals = [[(a * b.deriv()).integ() for b in basis] for a in basis]
    return np.array([[[f(k) for f in row] for row in integrals] for k in nodes])


@cache
def path_weights(num_points: int, trapezoid: bool) -> np.ndarray:
    """C[k] of the integral from point 0 to point k, (num_points, num_points, num_points).

    The polynomial through all points up to 5 of them (the rule W of docs/method.md); beyond, each
    link by the cubic through the 4 points about it, since equidistant nodes do not bear long
    polynomials. Reading a path backwards changes the sign of every rule.
    """
    if num_points <= 5 and not trapezoid:
        return polynomial_weights(num_points)
    width = 2 if trapezoid else 4
    local = np.diff(polynomial_weights(width), axis=0)
    result = np.zeros((num_points,) * 3)
    for link in range(num_points - 1):
        first = min(max(link - width // 2 + 1, 0), num_points - width)
        window = slice(first, first + width)
        result[link + 1] = result[link]
        result[link + 1, window, window] += local[link - first]
    return result


def log_ratios(points: np.ndarray, scores: np.ndarray, trapezoid: bool = False) -> np.ndarray:
    """log p(x_k) - log p(x_0) for every point of (M, N, d) paths, (M, N)."""
    weights = path_weights(len(points), trapezoid)
    products = np.einsum("ind,jnd->ijn", scores, points - points[0], optimize=True)
    return np.tensordot(weights, products, 2)


def end_ratio(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of the last point against the first, (N), -inf where the guard rejects."""
    value = log_ratios(points, scores)[-1]
    strays = np.abs(value - log_ratios(points, scores, trapezoid=True)[-1]) > GUARD
    return np.where(strays, -np.inf, value)


def kinetic(momentum: np.ndarray) -> np.ndarray:
    """|v|^2 / 2 over the last axis."""
    return 0.5 * (momentum**2).sum(-1)


def trajectory(force, x, score, momentum, h, count):
    """`count` leapfrogs: points and scores (count + 1, N, d), and the last momentum."""
    points, scores = [x], [score]
    for _ in range(count):
        momentum = momentum + 0.5 * h * scores[-1]
        points.append(points[-1] + h * momentum)
        scores.append(force(points[-1]))
        momentum = momentum + 0.5 * h * scores[-1]
    return np.stack(points), np.stack(scores), momentum


def draw_accepted(log_accept: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One decision a chain; NaN rejects."""
    return np.log(rng.random(len(log_accept))) < log_accept


# --- kernels


@dataclass(frozen=True)
class Hmc:
    """A trajectory and a test; damping > 0: generalised HMC (Horowitz 1991), flips if rejected."""

    num_leapfrog: int
    damping: float = 0.0

    @property
    def batch_evaluations(self) -> float:
        """Of one step."""
        return self.num_leapfrog

    def step(self, law: Law, now: State, h: float, rng: np.random.Generator) -> tuple[State, Info]:
        """One step of every chain."""
        fresh = rng.standard_normal(now.x.shape)
        before = self.damping * now.momentum + (1 - self.damping**2) ** 0.5 * fresh
        points, scores, after = trajectory(
            law.score, now.x, now.score, before, h, self.num_leapfrog
        )
        log_accept = end_ratio(points, scores) - kinetic(after) + kinetic(before)
        accepted = draw_accepted(log_accept, rng)[:, None]
        state = State(
            np.where(accepted, points[-1], now.x),
            np.where(accepted, scores[-1], now.score),
            np.where(accepted, after, -before),
        )
        return state, Info(accepted.mean(), self.num_leapfrog)


@dataclass(frozen=True)
class Orbit:
    """Leapfrog points about a uniformly placed origin: all (points, N, d) or (points, N)."""

    origin: np.ndarray  # (N): the index of the chain's own point
    points: np.ndarray
    scores: np.ndarray
    momenta: np.ndarray

    @staticmethod
    def grow(law: Law, now: State, h: float, num_leapfrog: int, rng) -> "Orbit":
        """First forward from the origin, then backward: one evaluation a leapfrog and chain."""
        count = len(now.x)
        chains = np.arange(count)
        origin = rng.integers(num_leapfrog + 1, size=count)
        shape = (num_leapfrog + 1, *now.x.shape)
        orbit = Orbit(origin, np.empty(shape), np.empty(shape), np.empty(shape))
        fresh = rng.standard_normal(now.x.shape)
        x, score, v = now.x, now.score, fresh
        orbit.points[origin, chains], orbit.scores[origin, chains] = x, score
        orbit.momenta[origin, chains] = v
        num_forward = num_leapfrog - origin
        for i in range(1, num_leapfrog + 1):
            turn = (num_forward == i - 1)[:, None]
            x, score = np.where(turn, now.x, x), np.where(turn, now.score, score)
            v = np.where(turn, fresh, v)
            is_forward = i <= num_forward
            step = np.where(is_forward, h, -h)[:, None]
            v = v + 0.5 * step * score
            x = x + step * v
            score = law.score(x)
            v = v + 0.5 * step * score
            place = np.where(is_forward, origin + i, origin - (i - num_forward))
            orbit.points[place, chains], orbit.scores[place, chains] = x, score
            orbit.momenta[place, chains] = v
        return orbit

    def log_weights(self) -> np.ndarray:
        """(points, N), each chain's up to a constant."""
        return log_ratios(self.points, self.scores) - kinetic(self.momenta)

    def jump(self, now: State, picks: np.ndarray, moved: np.ndarray) -> State:
        """The picked points where the guard lets them be taken; it is the same for the way back."""
        chains = np.arange(len(picks))
        gap = log_ratios(self.points, self.scores)
        gap -= log_ratios(self.points, self.scores, trapezoid=True)
        apart = np.abs(gap[picks, chains] - gap[self.origin, chains])
        taken = (moved & (apart <= GUARD))[:, None]
        return State(
            np.where(taken, self.points[picks, chains], now.x),
            np.where(taken, self.scores[picks, chains], now.score),
            now.momentum,
        )


def pick(log_weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index a chain from (points, N) log weights (Gumbel's trick); NaN weighs nothing."""
    noise = rng.gumbel(size=log_weights.shape)
    return np.where(np.isnan(log_weights), -np.inf, log_weights + noise).argmax(0)


@dataclass(frozen=True)
class Multinomial:
    """A fixed number of leapfrogs about a uniform origin, one point drawn (Betancourt 2017).

    `metropolised`: drawn among the other points, then tested (Liu 1996), which moves more often.
    """

    num_leapfrog: int
    metropolised: bool = False

    @property
    def batch_evaluations(self) -> float:
        """Of one step."""
        return self.num_leapfrog

    def step(self, law: Law, now: State, h: float, rng: np.random.Generator) -> tuple[State, Info]:
        """One step of every chain."""
        orbit = Orbit.grow(law, now, h, self.num_leapfrog, rng)
        logs = orbit.log_weights()
        moved = np.full(len(now.x), True)
        chains = np.arange(len(now.x))
        if self.metropolised:
            weights = np.exp(logs - logs.max(0))
            total, own = weights.sum(0), weights[orbit.origin, chains]
            logs[orbit.origin, chains] = -np.inf
        picks = pick(logs, rng)
        if self.metropolised:
            with np.errstate(divide="ignore"):
                ratio = (total - own) / (total - weights[picks, chains])
            moved = rng.random(len(picks)) < ratio
        state = orbit.jump(now, picks, moved)
        return state, Info((moved & (picks != orbit.origin)).mean(), self.num_leapfrog)


@dataclass(frozen=True)
class Nuts:
    """Doubling until a U-turn, at most num_points points, then one of them drawn by weight.

    A uniform origin among num_points is the same as doubling in random directions, so the whole
    orbit is computed and cut back: the same chain, with the evaluations that it would have paid
    counted by `Info`. A batch waits for its longest chain: batch_evaluations are all of them.
    """

    num_points: int  # a power of 2

    @property
    def batch_evaluations(self) -> float:
        """Of one step."""
        return self.num_points - 1

    def step(self, law: Law, now: State, h: float, rng: np.random.Generator) -> tuple[State, Info]:
        """One step of every chain."""
        orbit = Orbit.grow(law, now, h, self.num_points - 1, rng)
        first, size, paid = self.cut_back(orbit)
        index = np.arange(self.num_points)[:, None]
        inside = (index >= first) & (index < first + size)
        picks = pick(np.where(inside, orbit.log_weights(), -np.inf), rng)
        state = orbit.jump(now, picks, np.full(len(picks), True))
        return state, Info((picks != orbit.origin).mean(), paid.mean())

    def cut_back(self, orbit: Orbit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First index and number of points of each chain's tree, and the evaluations paid."""
        chains = np.arange(len(orbit.origin))
        size = np.ones_like(orbit.origin)
        paid = np.zeros(len(chains))
        growing = np.full(len(chains), True)
        # Of the blocks of 2^j aligned points: does one inside turn, and the evaluations until that
        # is known when the block is grown upwards and downwards.
        turns = np.full((self.num_points, len(chains)), False)
        cost_up = np.ones((self.num_points, len(chains)))
        cost_down = cost_up
        length = 1
        while length < self.num_points:
            sibling = (orbit.origin // length) ^ 1
            is_upward = sibling > orbit.origin // length
            cost = np.where(is_upward, cost_up[sibling, chains], cost_down[sibling, chains])
            paid += np.where(growing, cost, 0)
            growing = growing & ~turns[sibling, chains]
            length *= 2
            size = np.where(growing, length, size)
            is_turn = self.is_turned(orbit, length)
            low, high = turns[0::2], turns[1::2]
            cost_up = cost_up[0::2] + np.where(low, 0, cost_up[1::2])
            cost_down = cost_down[1::2] + np.where(high, 0, cost_down[0::2])
            turns = low | high | is_turn
            growing = growing & ~is_turn[orbit.origin // length, chains]
        return orbit.origin // size * size, size, paid

    @staticmethod
    def is_turned(orbit: Orbit, length: int) -> np.ndarray:
        """Whether the ends of each aligned block approach each other, (blocks, N)."""
        ends = orbit.points[length - 1 :: length] - orbit.points[::length]
        forward = (ends * orbit.momenta[length - 1 :: length]).sum(-1)
        backward = (ends * orbit.momenta[::length]).sum(-1)
        return ~((forward >= 0) & (backward >= 0))


@dataclass(frozen=True)
class Bfloat16:
    """HMC whose trajectory runs on bfloat16 scores; `second`: what float32 scores then test.

    "none": nothing, the ratio is that of the bfloat16 scores. "path": delayed acceptance
    (Christen and Fox 2005), what the first test let pass is tested by the ratio of the two rules,
    for which float32 scores of the whole path are paid. "ends": the same with the difference of the
    two scores known at the ends only and taken as linear between them.
    """

    num_leapfrog: int
    second: str
    cost: float  # of a bfloat16 evaluation, float32 = 1

    @property
    def batch_evaluations(self) -> float:
        """Of one step whose second stage runs on the chains that the first let pass."""
        return self.num_leapfrog * self.cost

    def step(self, law: Law, now: State, h: float, rng: np.random.Generator) -> tuple[State, Info]:
        """One step of every chain."""
        before = rng.standard_normal(now.x.shape)
        points, low, after = trajectory(
            lambda x: to_bfloat16(law.score(x)), now.x, now.low, before, h, self.num_leapfrog
        )
        ratio = end_ratio(points, low)
        passed = draw_accepted(ratio - kinetic(after) + kinetic(before), rng)
        paid = self.num_leapfrog * self.cost
        accepted, end = passed, low[-1]
        if self.second != "none":
            inner = [law.score(x) for x in points[1:]]
            high = np.stack([now.score, *inner])
            if self.second == "path":
                again = end_ratio(points, high)
                paid += passed.mean() * self.num_leapfrog
            else:
                error = 0.5 * ((high - low)[0] + (high - low)[-1])
                again = ratio + (error * (points[-1] - points[0])).sum(1)
                paid += passed.mean()
            with np.errstate(invalid="ignore"):
                accepted = passed & draw_accepted(again - ratio, rng)
            end = high[-1]
        taken = accepted[:, None]
        state = replace(
            now,
            x=np.where(taken, points[-1], now.x),
            score=np.where(taken, end, now.score),
            low=np.where(taken, low[-1], now.low),
        )
        return state, Info(accepted.mean(), paid)
