"""Step strategies: what shapes one optimizer update, one strategy a file.

`composition` orders strategies and refuses those that do not go together; `update` runs the result.
"""
