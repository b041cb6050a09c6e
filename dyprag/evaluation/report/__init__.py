"""The report of a run: what survives the controls, which method answers best, at what cost, and how training went."""

from dyprag.evaluation.report.findings import outputs_cut
from dyprag.evaluation.report.page import Report, ReportData, augmentation_table, write_report
from dyprag.evaluation.report.tables import brief_table, results_table, terminal_table

__all__ = [
    "Report",
    "ReportData",
    "augmentation_table",
    "brief_table",
    "outputs_cut",
    "results_table",
    "terminal_table",
    "write_report",
]
