"""Datasets as files, for those who want files."""

from fdsl.export.exporting import ExportReport, export_dataset
from fdsl.export.verifying import VerifyReport, verify_export

__all__ = ["ExportReport", "VerifyReport", "export_dataset", "verify_export"]
