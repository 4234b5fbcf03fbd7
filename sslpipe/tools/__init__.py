"""Tools for projects and trained models outside the pipeline: project setup, recipes, prediction, export, reports."""
