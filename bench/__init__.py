"""Timings of mixed-model fits: cases, one adapter per library, a runner and a report.

Kept outside the installed package.  Nothing is imported here, because the
runner starts workers in interpreters that have other packages.
"""
