"""``argus new-plugin``: creates a complete and working plugin package from templates."""

from __future__ import annotations

from argus_core.scaffold.package import LICENSES, NewPackage, make_package
from argus_core.scaffold.parts import MADE_KINDS

__all__ = ["LICENSES", "MADE_KINDS", "NewPackage", "make_package"]
