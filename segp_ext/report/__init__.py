"""What runs say: results, metrics, tables, plots and pages."""
