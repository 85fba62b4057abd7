"""Step strategies: each changes one part of the optimizer update; one strategy per module.

`composition` orders the chosen strategies and raises where two conflict; `update` runs the update.
"""
