"""The tables that tools/check_operators.py writes for docs/operators.md."""

RESIDUALS = ("residual", "residual_wrong")
CARRIES = ("ledger", "exact_start", "no_squares")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def operator_rows(record: dict) -> list[list[str]]:
    """One line an operator."""
    rows = []
    for row in record["operators"]:
        residuals = [f"{row[key]:.0e}" if key in row else "" for key in RESIDUALS]
        right, wrong = row["right"], row["wrong"]
        rows.append(
            [
                row["name"],
                *residuals,
                f"{right['z']:.1f}",
                f"{100 * right['error_in_sds']:.0f} %",
                row["mistake"],
                f"{wrong['z']:.0f}",
            ]
        )
    return rows


def provenance(record: dict) -> str:
    """Where a part's numbers come from."""
    made = f"`{record['command']}`, commit {record['commit'][:12]}, seed {record['config']['seed']}"
    return f"{made}; {record['device']}."


def operators_page(record: dict) -> str:
    """A line an operator."""
    head = ["operator", "identity", "with the mistake", "z", "error", "mistake", "its z"]
    return "\n\n".join([provenance(record), table(head, operator_rows(record))]) + "\n"


def share_cells(row: dict) -> list[str]:
    """The first component's mean share by the ledger and by exact densities."""
    return [f"{row[key]:.3f} ± {row[key + '_error']:.3f}" for key in ("share", "true_share")]


def ledgers_page(record: dict) -> str:
    """Along reverse steps, then along HMC."""
    shares = ["share by the ledger", "by exact densities"]
    head = ["levels", "mean error", "rms error", "from exact start", "without squares", *shares]
    rows = []
    for one, exact, wrong in zip(*(record["reverse_steps"][key] for key in CARRIES), strict=True):
        errors = [f"{one['mean']:+.3f}", *(f"{each['rms']:.3f}" for each in (one, exact, wrong))]
        rows.append([str(one["levels"]), *errors, *share_cells(one)])
    parts = [provenance(record), table(head, rows)]
    counts = [f"rms after {row['steps']}" for row in record["hmc"][0]["rows"]]
    head = ["HMC at one level", "rule", "acceptance", *counts, *shares]
    rows = []
    for one in record["hmc"]:
        errors = [f"{row['rms']:.3f}" for row in one["rows"]]
        where = f"v = {one['v']:g}, step {one['step']:g}"
        run = [where, one["rule"], f"{one['acceptance']:.2f}", *errors]
        rows.append([*run, *share_cells(one["rows"][-1])])
    return "\n\n".join([*parts, table(head, rows)]) + "\n"
