"""The combinations of built-in step strategies that are refused, each with words of the reason."""

from __future__ import annotations

from argus_core.testing import Example

__all__ = ["check_refusal", "labels"]

_REFUSED = {
    ("amp(bfloat16)", "amp(float16)"): "step strategy 'amp' is listed twice",
    ("amp(float16)", "closure"): "does not go with 'amp' (grad_scaler): torch.amp.GradScaler steps without",
    ("closure", "sam"): "both own the slot 'run_procedure'",
}


def labels(subset: tuple[Example, ...]) -> str:
    """Return the name of a combination."""
    return "+".join(each.label for each in subset) or "default"


def check_refusal(subset: tuple[Example, ...], reason: str | None) -> None:
    """Check that a combination was refused, for its reason, exactly if it holds a pair that cannot work."""
    present = {each.label for each in subset}
    expected = [words for pair, words in _REFUSED.items() if present.issuperset(pair)]
    assert (reason is not None) == bool(expected)
    assert reason is None or any(each in reason for each in expected)
