"""Writes tests/golden/schedules.json: alpha_bars of diffusers' DDPMScheduler.

Needs: pip install diffusers torch. Run from the repository root. diffusers computes in float32, so
the test allows that rounding.
"""

import json
import pathlib

import diffusers

CASES = [
    ("linear", {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}),
    ("linear", {"num_train_timesteps": 10, "beta_start": 1e-3, "beta_end": 0.3}),
    (
        "scaled_linear",
        {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012},
    ),
    ("squaredcos_cap_v2", {"num_train_timesteps": 100}),
    ("squaredcos_cap_v2", {"num_train_timesteps": 1000}),
]


def make_case(name: str, settings: dict) -> dict:
    scheduler = diffusers.DDPMScheduler(beta_schedule=name, **settings)
    num_levels = settings["num_train_timesteps"]
    indices = sorted({0, 1, 2, num_levels // 2, num_levels - 2, num_levels - 1})
    return {
        "name": name,
        **settings,
        "levels": [
            {
                "index": i,
                "alpha_bar": scheduler.alphas_cumprod[i].item(),
                "beta": scheduler.betas[i].item(),
            }
            for i in indices
        ],
    }


def main() -> None:
    path = pathlib.Path("tests/golden/schedules.json")
    golden = {
        "source": f"diffusers {diffusers.__version__} DDPMScheduler, float32",
        "cases": [make_case(name, settings) for name, settings in CASES],
    }
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
