"""Kubernetes' quantities: 500m, 2, 1Gi."""

import re

FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
QUANTITY = re.compile(r"([0-9]*\.?[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


def amount_or_none(quantity: object) -> float | None:
    """`amount`, or None where it is none."""
    try:
        return amount(quantity)
    except ValueError:
        return None


def amount(quantity: object) -> float:
    """In cores or bytes. Raises ValueError."""
    if not (match := QUANTITY.fullmatch(str(quantity))):
        raise ValueError(f"{quantity}: not a quantity; write it like 500m, 2 or 1Gi")
    return float(match[1]) * FACTORS[match[2] or ""]
