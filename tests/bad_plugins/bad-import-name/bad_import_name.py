from collections import Absent as Part

__all__ = ["Part"]
