"""The tables of the paper, trained again and set beside its own numbers.

published.py   what the paper prints
grid.py        a table is a grid of cells; a cell is a recipe, and the decodes that read it
running.py     cells x seeds as ordinary run folders, one after the other, resumed and skipped
progress.py    one bar for all of them
evidence.py    what is kept of a run: small, and enough for the report
statistics.py  intervals over patients and seeds, paired differences, what could have been detected
ablation.py    the ablation: its cells, its verdicts
page.py        Markdown, CSV and plot
claims.py      the poster's claims as comparisons; of noise.py wrong labels, lesions.py, gradients.py, speed.py
decisions.py   when a claim holds
claims_runs.py what the claims run themselves; claims_page.py and claims_plots.py write them
"""
