"""Models as source code: one C or C++ header that needs no library at all."""

from fastlstm.export.header import HeaderReport, to_header

__all__ = ["HeaderReport", "to_header"]
