"""Averages out of the bits of a scan, one bit at a time; `dc_codes.read_averages` agrees exactly."""

from __future__ import annotations


def read_averages(
    bits: str, codes: list[dict[str, int]], owners: list[int], groups: int
) -> tuple[int, list[int]] | None:
    """Return how many groups are complete and all averages; None if a code is invalid.

    Parameters
    ----------
    bits : str
        Zeros and ones.
    codes : list of dict
        For each component the category of each code.
    owners : list of int
        For each block of a group its component.
    groups : int
    """
    averages = [0] * (groups * len(owners))
    last = [0] * len(codes)
    at = 0

    def take() -> str:
        nonlocal at
        at += 1
        return bits[at - 1] if at <= len(bits) else "0"

    for group in range(groups):
        for block, own in enumerate(owners):
            code = ""
            while code not in codes[own]:
                code += take()
                if len(code) > 16:
                    return None
            category = codes[own][code]
            rest = "".join(take() for _ in range(category))
            if category:
                step = int(rest, 2)
                last[own] += step if rest[0] == "1" else step - (1 << category) + 1
            averages[group * len(owners) + block] = last[own]
        if at > len(bits):
            return group, averages
    return groups, averages
