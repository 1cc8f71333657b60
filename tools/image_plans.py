"""Plans of samplers on images at equal evaluations a chain, with step sizes that need no pilot.

A sampler with a trajectory of three leapfrogs after each reverse step visits a quarter of the
levels that the reverse process alone does. In d numbers a leapfrog of h = 1.2 d^(-1/4) sigma is
accepted about as often whatever d is: sigma, the sd of the noise, is the smallest scale of the law
at a level, and the power is that of HMC on independent coordinates (Beskos et al. 2013).
"""

import numpy as np

NUM_LEVELS = 1000  # of the networks, whose betas are linear from 1e-4 to 0.02
LEAPFROGS = 3
SCALE = 1.2


def sigmas(levels: list[int]) -> np.ndarray:
    """Standard deviation of the noise at levels."""
    alpha_bars = np.cumprod(1 - np.linspace(1e-4, 0.02, NUM_LEVELS))
    return np.sqrt(1 - alpha_bars[levels])


def levels_of(sampler: str, evaluations: int) -> list[int]:
    """As many levels as the evaluations pay for, evenly spread from the last to the first."""
    cost = 1 if sampler == "reverse" else 1 + LEAPFROGS
    return [round(level) for level in np.linspace(NUM_LEVELS - 1, 0, evaluations // cost)]


def head(sampler: str, evaluations: int) -> str:
    """The keys of a config outside all tables."""
    text = f'sampler = "{sampler}"\n'
    return text + (f"evaluations = {evaluations}\n" if sampler == "exact" else "")


def tables(sampler: str, evaluations: int, num_numbers: int) -> str:
    """The tables; num_numbers of an event. The sampler "exact" finds its own plan."""
    if sampler == "exact":
        return ""
    levels = levels_of(sampler, evaluations)
    text = f"[anneal]\nlevels = {levels}\n"
    if sampler == "reverse":
        return text
    sizes = SCALE * num_numbers**-0.25 * sigmas(levels)
    steps = ", ".join(f"{size:.6g}" for size in sizes)
    text += 'placement = "after_reverse"\nsteps_per_level = 1\n'
    return text + f"[kernel]\nstep_size = [{steps}]\nnum_leapfrog = {LEAPFROGS}\n"
