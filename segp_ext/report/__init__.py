"""What runs say: results, metrics, tables, plots and pages.

The numbers:
    result: `RunResult`, all that result.json holds; read, checked and written.
    confusion: which class was predicted for the images of each class.
    evaluation_result: `Evaluation`, all that evaluation.json holds.
    calibration_bins, detection: how probabilities fit; how unknown classes are detected.
    typed_json: dataclasses from JSON, with every entry checked.
    metrics: Avg, Last, Forgetting, BWT and FWT.
    detection: how well a score tells unknown images.
    comparison: means and paired differences over runs of several methods and seeds.

Statements about them:
    verdict: the sentences at the top of a page and at the end of a command.
    glossary: the meaning of columns, rows, paths and phases.
    table, run_tables, comparison_tables: tables for the terminal and the pages alike; results.csv and matrices.jsonl.
    stream_tables: Transfer, Avg and Last of a stream of data sets.
    evaluation_tables, prediction_rows, suspect_rows: an evaluation's verdict and tables; rows of predictions and of suspect images.
    terminal: tables as text 80 columns wide.

The pages report.html and summary.md:
    run_page, comparison_page: what stands on the page of a run and of a comparison, in which order.
    stream_page: the part of a run's page about a stream.
    evaluation_page: the same for an evaluation, which has report.html alone; its other files.
    page, page.css: building blocks in Markdown and HTML; colours and layout.
    svg_chart, svg_interval, svg_confusion, svg_calibration: pictures within report.html; svg_file: such a picture as a file.
    contact_sheet: small pictures of images, as a JPEG and within report.html.

The PNG files in plots/:
    run_plots, comparison_plots: the plots of a run and of a comparison.
    drawing: the surroundings in which matplotlib draws.
"""
